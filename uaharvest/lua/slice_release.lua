-- Give a slice back.
-- KEYS  run, due, hinted, slices, sent: of the run
--       progress, counters: of the stream
-- ARGV  slice
--       token: of the claim
--       delay: until it may be claimed again (ms)
--       attempts, waits: its new counts
--       reason: why it was given back
--       counted: what the process has counted (JSON object)
-- Returns 1; 0 if the slice is done, or another worker has claimed it.
local run, due, hinted, slices, sent, progress, counters = unpack(KEYS)
local slice, token, delay = ARGV[1], ARGV[2], tonumber(ARGV[3])
local attempts, waits, reason, counted = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7]
-- include clock
-- include slices
-- include counted

add_counts(counters, counted)
if not is_held_by(slice, token) then return 0 end
redis.call('HSET', slices, slice, cjson.encode({
  attempts = attempts, waits = waits, progress = tonumber(redis.call('GET', progress) or 0)}))
redis.call('ZADD', due, now + delay, slice)
redis.call('ZREM', hinted, slice)
redis.call('HSET', run, 'trouble', reason)
return 1
