-- Delete a run, free its slot, and add its outcome to the history.
-- KEYS  run, due, hinted, slices, sent: of the run
--       slot, explicit, history: of the stream
-- ARGV  id
--       entry: JSON, for the history
--       most: maximum number of entries in the history
-- Returns 1; 0 if the run no longer exists.
local run, due, hinted, slices, sent, slot, explicit, history = unpack(KEYS)
local id, entry, most = ARGV[1], ARGV[2], tonumber(ARGV[3])

if redis.call('GET', slot) == id then redis.call('DEL', slot) end
redis.call('SREM', explicit, id)
if redis.call('UNLINK', run) == 0 then return 0 end
redis.call('UNLINK', due, hinted, slices, sent)
redis.call('LPUSH', history, entry)
redis.call('LTRIM', history, 0, most - 1)
return 1
