-- Take a turn to read a slice, if it comes soon enough. A turn costs as many rows as slices had lately.
-- KEYS  pace: of the source
-- ARGV  now: ms
--       rate: rows per second
--       most: longest wait for a turn (ms)
--       first: rows of a slice, as long as none was read
-- Returns {wait (ms), rows that the turn costs}; 0 rows if the wait is too long and no turn was taken.
local pace = unpack(KEYS)
local now, rate, most, first = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local free = math.max(now, tonumber(redis.call('HGET', pace, 'free') or 0))
local rows = math.ceil(tonumber(redis.call('HGET', pace, 'mean') or first))
local wait = math.ceil(free - now)
if wait > most then return {wait, 0} end
redis.call('HSET', pace, 'free', string.format('%.3f', free + rows * 1000 / rate))
redis.call('PEXPIRE', pace, math.ceil(wait + rows * 1000 / rate) + 600000)
return {wait, rows}
