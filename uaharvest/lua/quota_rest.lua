-- Put a label on hold.
-- KEYS  hold: of the label
-- ARGV  rest: for how long (ms); a longer hold stays in force
-- Returns `rest`.
local hold = unpack(KEYS)
local rest = tonumber(ARGV[1])
-- include clock

local instant = now + rest
if instant > tonumber(redis.call('GET', hold) or 0) then redis.call('SET', hold, instant, 'PXAT', instant) end
return rest
