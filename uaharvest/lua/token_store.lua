-- Store a new token if the lock is still held, and release the lock.
-- KEYS  token, lock
-- ARGV  new: JSON
--       life: its lifetime (ms)
--       holder: of the lock
-- Returns 1; 0 if somebody else holds the lock.
local token, lock = unpack(KEYS)
local new, life, holder = unpack(ARGV)

if redis.call('GET', lock) ~= holder then return 0 end
redis.call('SET', token, new, 'PX', life)
redis.call('DEL', lock)
return 1
