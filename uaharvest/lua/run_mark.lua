-- Mark ids as known, and count those that were delivered.
-- KEYS  run, due, hinted, slices, sent: of the run
--       counters: of the stream
--       then any number of sets of known ids
-- ARGV  delivered: how many the sink has confirmed
--       then score, id, score, id ...
-- A late count does not recreate a run that no longer exists. Its ids are marked anyway, because they were confirmed.
local run, due, hinted, slices, sent, counters = unpack(KEYS)
local delivered = ARGV[1]
local members = {}
for n = 2, #ARGV do members[#members + 1] = ARGV[n] end
-- include slices

redis.call('HINCRBY', counters, 'delivered', delivered)
for n = 7, #KEYS do redis.call('ZADD', KEYS[n], unpack(members)) end
if redis.call('EXISTS', run) == 1 then
  redis.call('HINCRBY', run, 'delivered', delivered)
else
  redis.call('UNLINK', sent)
end
end_with_run()
return 1
