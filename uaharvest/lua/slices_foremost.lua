-- Find the first outstanding slice, if every outstanding slice has been put off before.
-- KEYS  run, due, hinted, slices, sent: of the run
-- Returns the slice, or nil.
local run, due, hinted, slices, sent = unpack(KEYS)
-- include slices

local first = false
for _, slice in ipairs(redis.call('ZRANGE', due, 0, -1)) do
  if state_of(slice).waits == 0 then return false end
  if not first or slice < first then first = slice end
end
return first
