-- Lease a slice to a worker, and count the attempt.
-- KEYS  run, due, hinted, slices, sent: of the run
-- ARGV  slice
--       token: of this claim
--       lease: ms
-- Returns {attempts, waits, progress when it last failed, or -1}; {} if it is done, not yet due, or leased by another.
local run, due, hinted, slices, sent = unpack(KEYS)
local slice, token, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- include clock
-- include slices

local score = redis.call('ZSCORE', due, slice)
if not score or tonumber(score) > now then return {} end
local state = state_of(slice)
state.token, state.attempts = token, state.attempts + 1
redis.call('HSET', slices, slice, cjson.encode(state))
redis.call('ZADD', due, now + lease, slice)
return {state.attempts, state.waits, state.progress or -1}
