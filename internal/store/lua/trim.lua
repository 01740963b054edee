-- Removes ledger entries and day counters that are past their age; a tombstone
-- goes with its last entry.
-- KEYS[1] trigger partition root
-- ARGV 1 trigger, 2 entries before this ms go, 3 counters before this UTC day go
-- Returns the number of entries removed.
local n = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', R .. ':led:' .. ARGV[1], '-inf', '(' .. ARGV[2], 'LIMIT', 0, 500)) do
  local e = get_entry(ARGV[1], id)
  if not e or e.decision ~= '' then
    drop_entry(ARGV[1], id)
    n = n + 1
  end
end
for _, field in ipairs(redis.call('HKEYS', R .. ':day:' .. ARGV[1])) do
  if tonumber(string.match(field, '^(%-?%d+)%.')) < tonumber(ARGV[3]) then
    redis.call('HDEL', R .. ':day:' .. ARGV[1], field)
  end
end
return n
