-- Correct what a turn costs, once its slice is read.
-- KEYS  pace: of the source
-- ARGV  rate: rows per second
--       paid: rows that the turn cost
--       rows: rows that were read
local pace = unpack(KEYS)
local rate, paid, rows = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

if redis.call('EXISTS', pace) == 0 then return end
local free = tonumber(redis.call('HGET', pace, 'free') or 0) + (rows - paid) * 1000 / rate
local mean = tonumber(redis.call('HGET', pace, 'mean') or rows)
redis.call('HSET', pace, 'free', string.format('%.3f', free),
  'mean', string.format('%.1f', math.max((3 * mean + rows) / 4, 1)))
