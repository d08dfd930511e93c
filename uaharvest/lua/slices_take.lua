-- Take slices that are due, to send hints for them, and mark them as hinted.
-- KEYS  run, due, hinted, slices, sent: of the run
-- ARGV  most: how many
--       hold: time after which a hint is taken as lost (ms)
-- Returns the slices.
local run, due, hinted, slices, sent = unpack(KEYS)
local most, hold = tonumber(ARGV[1]), tonumber(ARGV[2])
-- include clock
-- include slices

local taken = {}
for _, slice in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now)) do
  if #taken >= most then break end
  local hint = redis.call('ZSCORE', hinted, slice)
  if not hint or tonumber(hint) + hold <= now then
    redis.call('ZADD', hinted, now, slice)
    taken[#taken + 1] = slice
  end
end
end_with_run()
return taken
