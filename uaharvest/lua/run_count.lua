-- Add to the stream's own counts of a run. Does not recreate a run that no longer exists.
-- KEYS  run, due, hinted, slices, sent: of the run
-- ARGV  name, count, name, count ...
-- Returns 1; 0 if the run no longer exists.
local run = unpack(KEYS)

if redis.call('EXISTS', run) == 0 then return 0 end
for n = 1, #ARGV, 2 do
  local name, count = ARGV[n], ARGV[n + 1]
  redis.call('HINCRBY', run, 'count:' .. name, count)
end
return 1
