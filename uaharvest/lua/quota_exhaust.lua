-- Block the calls of a day cap for a while.
-- KEYS  spent, probe: of the day cap
-- ARGV  midnight: see days (ms)
--       cap: name of the day cap
--       rest: for how long (ms); -1: until the next day; a longer block stays in force
--       used_pattern: pattern of the keys of a day
-- Returns for how long (ms).
local spent, probe = unpack(KEYS)
local midnight, cap, rest, used_pattern = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
-- include days

-- Forget the count of all apps' calls: by then its day is over, whenever Zoom's days begin.
redis.call('HDEL', string.format(used_pattern, today), 'account ' .. cap)
redis.call('DEL', probe)
local instant = rest >= 0 and now + rest or ended(today)
if instant > tonumber(redis.call('GET', spent) or 0) then redis.call('SET', spent, instant, 'PXAT', instant) end
return instant - now
