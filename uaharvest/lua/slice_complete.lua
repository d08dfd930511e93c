-- Remove a slice, once, and count its rows.
-- KEYS  run, due, hinted, slices, sent: of the run
--       progress, counters: of the stream
-- ARGV  slice
--       found, dead: rows in it, and dead letters written
--       counts: the stream's own counts (JSON object)
--       repeated: how many of the rows had been delivered before
--       counted: what the process has counted (JSON object)
-- Returns 1; 0 if it is not outstanding.
local run, due, hinted, slices, sent, progress, counters = unpack(KEYS)
local slice, found, dead, counts = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local repeated, counted = ARGV[5], ARGV[6]
-- include slices
-- include counted

add_counts(counters, counted)
if not remove(slice) then return 0 end
for name, count in pairs(cjson.decode(counts)) do redis.call('HINCRBY', run, 'count:' .. name, count) end
redis.call('HINCRBY', run, 'done', 1)
redis.call('HINCRBY', run, 'found', found)
redis.call('HINCRBY', run, 'dead', dead)
redis.call('HINCRBY', counters, 'dead', dead)
redis.call('HINCRBY', counters, 'repeated', repeated)
-- A slice that was given up does not show that the source works.
if found > 0 or dead == 0 then redis.call('INCR', progress) end
return 1
