-- Read a run.
-- KEYS  slot: holds the id of the live run
-- ARGV  id: '' for the run in the slot
--       run_pattern, due_pattern: patterns of the keys of runs, and of their outstanding slices
-- Returns {id, fields, number of outstanding slices}; {} if the slot is empty.
local slot = unpack(KEYS)
local id, run_pattern, due_pattern = unpack(ARGV)

if id == '' then id = redis.call('GET', slot) end
if not id then return {} end
local run, due = string.format(run_pattern, id), string.format(due_pattern, id)
return {id, redis.call('HGETALL', run), redis.call('ZCARD', due)}
