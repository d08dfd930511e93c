-- Grant a permit for a call, or return the obstacle.
-- KEYS  places, queue, hold: of the label
--       spent, probe: of the day cap
-- ARGV  midnight: see days (ms)
--       permit
--       label, cap: names of the label and of its day cap
--       most, window: maximum number of calls in any window, and its length (ms)
--       ours, all: daily limits for our calls, and for those of all apps; -1 for no limit
--       lapse: time after which a permit counts as answered (ms)
--       queued: time after which a permit that is no longer requested leaves the queue (ms)
--       interval: time between two probes (ms)
--       kept: lifetime of the counts of calls (ms)
--       used_pattern, calls_pattern: patterns of the keys of a day
-- Returns {obstacle, its duration (ms)}. Obstacles: 0 none, 1 the label is on hold, 2 the day's calls are used up,
-- 3 the window is full.
local places, queue, hold, spent, probe = unpack(KEYS)
local midnight, permit, label, cap = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local most, window, ours, all = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local lapse, queued, interval, kept = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local used_pattern, calls_pattern = ARGV[13], ARGV[14]
-- include days

local function used(day, field)
  return tonumber(redis.call('HGET', string.format(used_pattern, day), field) or 0)
end

local spent_until = tonumber(redis.call('GET', spent) or 0)
if spent_until > now then return {2, spent_until - now} end
for _, day in ipairs(days()) do
  if ours >= 0 and used(day, cap) >= ours then return {2, ended(day) - now} end
end
local held_until = tonumber(redis.call('GET', hold) or 0)
if held_until > now then return {1, held_until - now} end

-- First come, first served: how many places must become free before this permit gets one?
redis.call('ZREMRANGEBYSCORE', places, '-inf', now)
redis.call('ZREMRANGEBYSCORE', queue, '-inf', (now - queued) * 1000)
redis.call('ZADD', queue, 'NX', time[1] * 1000000 + time[2], permit)
redis.call('PEXPIRE', queue, queued)
local behind = redis.call('ZRANK', queue, permit) - (most - redis.call('ZCARD', places))
if behind >= 0 then
  local nth = behind % most
  local free_at = tonumber(redis.call('ZRANGE', places, nth, nth, 'WITHSCORES')[2] or now)
  -- A place whose call has no answer yet is a guess, because the answer may come at any time.
  return {3, math.max(math.min(free_at - now, window), 10) + window * math.floor(behind / most)}
end

if all >= 0 and used(today, 'account ' .. cap) >= all then
  if not redis.call('SET', probe, 1, 'NX', 'PX', interval) then return {2, redis.call('PTTL', probe)} end
end
redis.call('ZREM', queue, permit)
redis.call('ZADD', places, now + lapse + window, permit)
redis.call('PEXPIRE', places, lapse + window)
for _, day in ipairs(days()) do
  local key = string.format(used_pattern, day)
  redis.call('HINCRBY', key, cap, 1)
  redis.call('HINCRBY', key, 'account ' .. cap, 1)
  redis.call('PEXPIRE', key, 3 * DAY)
end
local calls = string.format(calls_pattern, today)
redis.call('HINCRBY', calls, label, 1)
redis.call('PEXPIRE', calls, kept)
return {0, 0}
