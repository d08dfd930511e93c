-- Count the slices that a worker holds, or that a hint is on its way for.
-- KEYS  run, due, hinted, slices, sent: of the run
-- ARGV  hold: time after which a hint is taken as lost (ms)
local run, due, hinted, slices, sent = unpack(KEYS)
local hold = tonumber(ARGV[1])
-- include clock

local count = 0
for _, slice in ipairs(redis.call('ZRANGE', hinted, 0, -1)) do
  local at = tonumber(redis.call('ZSCORE', due, slice) or 0)
  if at > now or tonumber(redis.call('ZSCORE', hinted, slice)) + hold > now then count = count + 1 end
end
return count
