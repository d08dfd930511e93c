-- Store the meetings of a page and the position of the next page.
-- KEYS  position: hash
--       found: list of the meetings found so far
-- ARGV  left: the position that the caller left; '' for none
--       kind, token: the new position
--       life: lifetime of both keys (s)
--       then meetings
-- Returns 1; 0 if the stored position differs: Redis went back to an older state, or another worker moved it.
local position, found = unpack(KEYS)
local left, kind, token, life = unpack(ARGV)

local kept_kind, kept_token, number = unpack(redis.call('HMGET', position, 'kind', 'token', 'found'))
if (kept_kind and kept_kind .. ' ' .. kept_token or '') ~= left then return 0 end
if redis.call('LLEN', found) ~= tonumber(number or 0) then return 0 end
for n = 5, #ARGV do redis.call('RPUSH', found, ARGV[n]) end
redis.call('HSET', position, 'kind', kind, 'token', token, 'found', redis.call('LLEN', found))
redis.call('EXPIRE', position, life)
redis.call('EXPIRE', found, life)
return 1
