-- Correct today's number of calls by all apps.
-- ARGV  midnight: see days (ms)
--       cap: name of the day cap
--       reported: that number, from an answer
--       late: by how many calls it may be behind, because answers overtake each other and other calls are in flight;
--       if it is further behind, Zoom's day has begun again
--       used_pattern: pattern of the keys of a day
-- Returns 1; 0 near midnight, when it is not known which day an answer counts.
local midnight, cap, reported, late, used_pattern = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
-- include days

if #days() > 1 then return 0 end
local key, field = string.format(used_pattern, today), 'account ' .. cap
local kept = tonumber(redis.call('HGET', key, field) or 0)
if reported > kept or reported + late < kept then redis.call('HSET', key, field, reported) end
redis.call('PEXPIRE', key, 3 * DAY)
return 1
