-- Delete a token that was refused.
-- KEYS  token, refusals
-- ARGV  refused: JSON, as the token was stored
--       life: lifetime of the count of refusals (ms)
-- Returns the number of refusals in a row; 0 if another token is stored.
local token, refusals = unpack(KEYS)
local refused, life = unpack(ARGV)

if redis.call('GET', token) ~= refused then return 0 end
redis.call('DEL', token)
local count = redis.call('INCR', refusals)
redis.call('PEXPIRE', refusals, life)
return count
