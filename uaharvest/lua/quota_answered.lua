-- Free the place of a permit one window after its answer.
-- KEYS  places: of the label
-- ARGV  permit
--       window: ms
local places = unpack(KEYS)
local permit, window = ARGV[1], tonumber(ARGV[2])
-- include clock

return redis.call('ZADD', places, 'XX', now + window, permit)
