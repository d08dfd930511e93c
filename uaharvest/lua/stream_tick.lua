-- Record a tick of beat.
-- KEYS  ticked, counters: of the stream
-- ARGV  least: time between two ticks (ms)
--       counted: what the process has counted (JSON object)
-- Returns 1; 0 for a tick that comes too soon.
local ticked, counters = unpack(KEYS)
local least, counted = tonumber(ARGV[1]), ARGV[2]
-- include clock
-- include counted

add_counts(counters, counted)
local former = tonumber(redis.call('GET', ticked) or 0)
if former <= now and former + least > now then return 0 end
redis.call('SET', ticked, string.format('%.0f', now))
return 1
