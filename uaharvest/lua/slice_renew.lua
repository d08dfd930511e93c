-- Restart the lease of a slice.
-- KEYS  run, due, hinted, slices, sent: of the run
-- ARGV  slice
--       token: of the claim
--       lease: ms
-- Returns 1; 0 if the slice is done, or another worker has claimed it.
local run, due, hinted, slices, sent = unpack(KEYS)
local slice, token, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- include clock
-- include slices

if not is_held_by(slice, token) then return 0 end
redis.call('ZADD', due, now + lease, slice)
return 1
