-- Moves triggers past slots that were published (or passed over), and writes the
-- ledger entries of these slots.
-- KEYS[1] trigger partition root
-- ARGV per trigger, each named once and at most 500 of them: uuid, revision, expected
--   next slot in ms, new next slot or '', number k of entries, then k times the 3 values
--   of put_entry.
-- Returns per trigger 1, or 0 when it has moved on already.
local uuids, places, at = {}, {}, 1
while at <= #ARGV do
  uuids[#uuids + 1], places[#places + 1] = ARGV[at], at
  at = at + 5 + 3 * ARGV[at + 4]
end
local rows = redis.call('HMGET', R .. ':trigger', unpack(uuids))
local nexts = redis.call('ZMSCORE', R .. ':next', unpack(uuids))
local moved, set, ended = {}, {}, {}
for k, uuid in ipairs(uuids) do
  local p, row = places[k], rows[k]
  moved[k] = 0
  if row and string.match(row, '^%d+|(%d+)|') == ARGV[p + 1] and nexts[k] == ARGV[p + 2] then
    moved[k] = 1
    if ARGV[p + 3] == '' then ended[#ended + 1] = uuid
    else set[#set + 1], set[#set + 2] = ARGV[p + 3], uuid end
    for e = p + 5, p + 2 + 3 * ARGV[p + 4], 3 do put_entry(uuid, e) end
  end
end
if #set > 0 then redis.call('ZADD', R .. ':next', unpack(set)) end
if #ended > 0 then redis.call('ZREM', R .. ':next', unpack(ended)) end
settle_entries()
return moved
