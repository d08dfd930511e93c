-- Record the newest failure at a place of a stream. `since` is kept while the reason stays the same.
-- KEYS  failed, counters: of the stream
-- ARGV  place
--       entry: JSON object
--       kind: of failure
--       counted: what the process has counted (JSON object)
local failed, counters = unpack(KEYS)
local place, entry, kind, counted = ARGV[1], cjson.decode(ARGV[2]), ARGV[3], ARGV[4]
-- include clock
-- include counted

redis.call('HINCRBY', counters, 'failures:' .. kind, 1)
add_counts(counters, counted)
local former = redis.call('HGET', failed, place)
entry.at, entry.since = now, now
if former then
  former = cjson.decode(former)
  if former.reason == entry.reason then entry.since = former.since end
end
redis.call('HSET', failed, place, cjson.encode(entry))
