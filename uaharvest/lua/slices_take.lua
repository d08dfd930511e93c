-- Take slices that are due, to send hints for them, and mark them as hinted.
-- KEYS  run, due, hinted, slices, sent: of the run
-- ARGV  most: how many
--       hold: length of a lease, after which a hint is taken as lost (ms)
-- Returns the slices.
local run, due, hinted, slices, sent = unpack(KEYS)
local most, hold = tonumber(ARGV[1]), tonumber(ARGV[2])
-- include clock
-- include slices

-- If Redis's clock goes back, as it may when a replica takes over, leases and hints lie in the future. Slices that were
-- put off for long have no token.
for _, slice in ipairs(redis.call('ZRANGEBYSCORE', due, string.format('(%.0f', now + hold), '+inf')) do
  if state_of(slice).token then redis.call('ZADD', due, now + hold, slice) end
end

local taken = {}
for _, slice in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now)) do
  if #taken >= most then break end
  local hint = redis.call('ZSCORE', hinted, slice)
  if not hint or tonumber(hint) + hold <= now or tonumber(hint) > now then
    redis.call('ZADD', hinted, now, slice)
    taken[#taken + 1] = slice
  end
end
end_with_run()
return taken
