-- Release the lock.
-- KEYS  lock
-- ARGV  holder
-- Returns 1; 0 if somebody else holds the lock.
local lock = unpack(KEYS)
local holder = unpack(ARGV)

return redis.call('GET', lock) == holder and redis.call('DEL', lock) or 0
