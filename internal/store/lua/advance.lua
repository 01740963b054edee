-- Moves triggers past slots that were published (or passed over), and writes the
-- ledger entries of these slots. For the usual one, a slot that was published and
-- nothing else, no key of the trigger's own is touched.
-- KEYS[1] trigger partition root
-- ARGV 1 number n of triggers, each named once and at most 500 of them, then n uuids,
--   n entry ids of their expected next slots, and n entry ids of the new ones or ''; then,
--   for each trigger of which not just that expected slot was published: its place
--   among the n, number k of entries, and k times the 3 values of put_entry.
-- Returns per trigger 1, or 0 when it has moved on already.
local n, next = tonumber(ARGV[1]), R .. ':next'
local function named(command, key) return redis.call(command, key, unpack(ARGV, 2, n + 1)) end
-- Reads what a hash that is mostly empty has of the triggers.
local function notes(key) return redis.call('EXISTS', key) == 1 and named('HMGET', key) or {} end

local nexts, open, early = named('HMGET', next), notes(OPEN), notes(EARLY)
local special, at = {}, 3 * n + 2
while at <= #ARGV do
  special[tonumber(ARGV[at])] = at + 1
  at = at + 2 + 3 * ARGV[at + 1]
end

local moved, set, ended, opened, noted = {}, {}, {}, {}, {}

-- Writes down that a slot was published, unless it is decided already.
local function publish(k, uuid, id)
  local list = open[k]
  if early[k] == id then return end
  if list and #list > 1000 then
    local rev, slot = string.match(id, '^(%d+)%.(%d+)$')
    return add_entry(uuid, id, slot, open_row(rev, slot, NOW_TEXT))
  end
  opened[#opened + 1] = uuid
  opened[#opened + 1] = (list or '') .. ',' .. id .. '|' .. NOW_TEXT
  note_undecided(uuid, id)
end

for k = 1, n do
  local uuid, id, to, p = ARGV[k + 1], ARGV[k + 1 + n], ARGV[k + 1 + 2 * n], special[k]
  moved[k] = 0
  if nexts[k] == id then
    moved[k] = 1
    if to == '' then ended[#ended + 1] = uuid
    else set[#set + 1], set[#set + 2] = uuid, to end
    if not p then publish(k, uuid, id)
    else for e = p + 1, p - 2 + 3 * ARGV[p], 3 do put_entry(uuid, e) end end
    if early[k] then noted[#noted + 1] = uuid end
  end
end
if #set > 0 then redis.call('HSET', next, unpack(set)) end
if #ended > 0 then redis.call('HDEL', next, unpack(ended)) end
if #opened > 0 then redis.call('HSET', OPEN, unpack(opened)) end
if #noted > 0 then redis.call('HDEL', EARLY, unpack(noted)) end
settle_entries()
return moved
