-- Hand out instants that are at least `wait` apart.
-- KEYS  last: the instant that was handed out last
-- ARGV  wait: ms
-- Returns how long to wait for the instant (ms).
local last = unpack(KEYS)
local wait = tonumber(ARGV[1])
-- include clock

local turn = math.max(now, tonumber(redis.call('GET', last) or 0))
-- More than a hundred requests never wait. Redis's clock went back, as it may when a replica takes over.
if turn > now + 100 * wait then turn = now end
redis.call('SET', last, turn + wait, 'PX', turn + wait - now + 1000)
return turn - now
