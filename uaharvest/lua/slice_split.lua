-- Replace a slice with parts.
-- KEYS  run, due, hinted, slices, sent: of the run
--       counters: of the stream
-- ARGV  slice
--       parts: JSON list of slices
--       attempts: number of attempts that each part starts with
--       counted: what the process has counted (JSON object)
-- Returns 1; 0 if the slice is not outstanding.
local run, due, hinted, slices, sent, counters = unpack(KEYS)
local slice, parts, attempts, counted = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
-- include slices
-- include counted

add_counts(counters, counted)
if not remove(slice) then return 0 end
redis.call('HINCRBY', run, 'planned', add_all(cjson.decode(parts), attempts) - 1)
end_with_run()
return 1
