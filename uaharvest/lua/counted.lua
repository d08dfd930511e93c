-- Included by scripts that also write what a process has counted (uaharvest/counters.py).
local function add_counts(counters, counted)
  for name, amount in pairs(cjson.decode(counted)) do redis.call('HINCRBY', counters, name, amount) end
end
