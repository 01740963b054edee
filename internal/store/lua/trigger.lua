-- Writes a trigger row and settles its schedule in one step. A row is
-- "<version>|<revision>|<JSON>".
-- KEYS[1] trigger partition root "takt:{t:N}"
-- ARGV 1 uuid, 2 expected version (0: create), 3 JSON, 4 new version, 5 new revision,
--   6 expected next slot in ms, '' for none, or '*' to leave it as it is (but to
--   create), 7 new next slot in ms or '',
--   8 number k of ledger entries, then k times the 3 values of put_entry,
--   then any number of outbox entries.
-- Returns 1; 0 when the version or the next slot is another; -1 when the trigger
--   does not exist (or, to create, when it does).
local row = redis.call('HGET', R .. ':trigger', ARGV[1])
-- The same write again: the reply to the first was lost on its way.
if row == ARGV[4] .. '|' .. ARGV[5] .. '|' .. ARGV[3] then return 1 end
if ARGV[2] == '0' then
  if row then return -1 end
elseif not row then
  return -1
elseif string.match(row, '^(%d+)|') ~= ARGV[2] then
  return 0
end
local next = redis.call('HGET', R .. ':next', ARGV[1])
local slot = next and string.match(next, '%.(%d+)$') or ''
if ARGV[6] ~= '*' and ARGV[6] ~= slot then return 0 end
redis.call('HSET', R .. ':trigger', ARGV[1], ARGV[4] .. '|' .. ARGV[5] .. '|' .. ARGV[3])
-- Unless it was compared, the next slot is its process's, which may have moved on.
if ARGV[6] ~= '*' or ARGV[2] == '0' then slot = ARGV[7] end
local new = slot ~= '' and ARGV[5] .. '.' .. slot
if new ~= next then
  if new then redis.call('HSET', R .. ':next', ARGV[1], new) else redis.call('HDEL', R .. ':next', ARGV[1]) end
  redis.call('HDEL', EARLY, ARGV[1])
end
local k = tonumber(ARGV[8])
for e = 0, k - 1 do put_entry(ARGV[1], 9 + 3 * e) end
settle_entries()
note_edit(ARGV[1])
for o = 9 + 3 * k, #ARGV do redis.call('ZADD', R .. ':outbox', NOW, ARGV[o]) end
return 1
