-- Included by scripts that change the slices of a run, after they have named its keys.
local function state_of(slice)
  local text = redis.call('HGET', slices, slice)
  return text and cjson.decode(text) or {attempts = 0, waits = 0}
end

local function is_held_by(slice, token)
  return redis.call('ZSCORE', due, slice) and state_of(slice).token == token
end

local function add(slice, attempts)
  if redis.call('ZADD', due, 'NX', 0, slice) == 0 then return 0 end
  redis.call('HSET', slices, slice, cjson.encode({attempts = attempts, waits = 0}))
  return 1
end

local function add_all(list, attempts)
  local added = 0
  for _, slice in ipairs(list) do added = added + add(slice, attempts) end
  return added
end

local function remove(slice)
  redis.call('ZREM', hinted, slice)
  redis.call('HDEL', slices, slice)
  return redis.call('ZREM', due, slice) == 1
end

-- The keys of a private run expire. A key that this script created must expire with them.
local function end_with_run()
  local rest = redis.call('PTTL', run)
  if rest < 0 then return end
  for _, key in ipairs({due, hinted, slices, sent}) do redis.call('PEXPIRE', key, rest) end
end
