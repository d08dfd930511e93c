-- Write a run and its slices; a live run takes the slot.
-- KEYS  run, due, hinted, slices, sent: of the run
--       shelf: the slot, if the run is live; else the set of explicit runs or of windows of backfills
-- ARGV  id, kind
--       fields: JSON object
--       first: JSON list of slices
--       pattern: pattern of the keys of runs
-- Returns 1; 0 if another live run has the slot.
local run, due, hinted, slices, sent, shelf = unpack(KEYS)
local id, kind, fields, first, pattern = unpack(ARGV)
-- include slices

-- The run exists if redis-py repeats the call because the answer was lost.
if redis.call('EXISTS', run) == 1 then return 1 end
if kind == 'live' then
  local holder = redis.call('GET', shelf)
  if holder and redis.call('EXISTS', string.format(pattern, holder)) == 1 then return 0 end
  redis.call('SET', shelf, id)
elseif kind ~= 'private' then
  redis.call('SADD', shelf, id)
end
for field, value in pairs(cjson.decode(fields)) do redis.call('HSET', run, field, value) end
redis.call('HSET', run, 'planned', add_all(cjson.decode(first), 0), 'done', 0)
return 1
