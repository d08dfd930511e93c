-- Included after `midnight` (ms) is defined: Zoom's days (UTC) by Redis's clock, as numbers since 1970. A call within
-- `midnight` of a day's end counts on both days, because it is not known when it reaches Zoom.
local DAY = 86400000
-- include clock
local today = math.floor(now / DAY)

local function days()
  local first, last = math.floor((now - midnight) / DAY), math.floor((now + midnight) / DAY)
  return first == last and {first} or {first, last}
end

local function ended(day)
  return (day + 1) * DAY + midnight
end
