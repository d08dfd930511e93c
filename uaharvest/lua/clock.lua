-- Included: `now`, milliseconds of Redis's own clock, so that all hosts agree; `time`, seconds and microseconds.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
