-- Move an explicit run on to its next window, once.
-- KEYS  run, due, hinted, slices, sent: of the run
-- ARGV  former, window: as text
--       first: JSON list of the slices of `window`
-- Returns 1; 0 if the run has already moved on, or slices of `former` are outstanding.
local run, due, hinted, slices, sent = unpack(KEYS)
local former, window, first = unpack(ARGV)
-- include slices

if redis.call('HGET', run, 'window') ~= former or redis.call('ZCARD', due) > 0 then return 0 end
redis.call('HSET', run, 'window', window)
redis.call('HINCRBY', run, 'planned', add_all(cjson.decode(first), 0))
end_with_run()
return 1
