-- Removes ledger entries that are past their age or too many, and day counters past
-- theirs. Undecided entries stay.
-- KEYS[1] trigger partition root
-- ARGV 1 trigger, 2 entries whose last slot lies before this ms go, 3 counters before
--   this UTC day go,
--   4 most entries
-- Returns the number of entries removed, at most 1000 a call.
local n = 0
local function drop(ids, before)
  for _, id in ipairs(ids) do
    local e = get_entry(ARGV[1], id)
    if not e or e.decision ~= '' and tonumber(e.to) < before then
      drop_entry(ARGV[1], id)
      n = n + 1
    end
  end
end
local led = R .. ':led:' .. ARGV[1]
drop(redis.call('ZRANGEBYSCORE', led, '-inf', '(' .. ARGV[2], 'LIMIT', 0, 500), tonumber(ARGV[2]))
local surplus = redis.call('ZCARD', led) - tonumber(ARGV[4])
if surplus > 0 then drop(redis.call('ZRANGE', led, 0, math.min(surplus, 500) - 1), math.huge) end
for _, field in ipairs(redis.call('HKEYS', R .. ':day:' .. ARGV[1])) do
  if tonumber(string.match(field, '^(%-?%d+)%.')) < tonumber(ARGV[3]) then
    redis.call('HDEL', R .. ':day:' .. ARGV[1], field)
  end
end
return n
