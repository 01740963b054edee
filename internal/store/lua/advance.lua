-- Moves triggers past slots that were published (or passed over), and writes the
-- ledger entries of these slots.
-- KEYS[1] trigger partition root
-- ARGV 1 trigger, 2 revision, 3 expected next slot in ms, 4 new next slot or '',
--   5 number k of entries, then k times the 3 values of put_entry.
-- Returns 1, or 0 when the trigger has moved on already.
local row = redis.call('HGET', R .. ':trigger', ARGV[1])
if not row or string.match(row, '^%d+|(%d+)|') ~= ARGV[2] then return 0 end
if redis.call('ZSCORE', R .. ':next', ARGV[1]) ~= ARGV[3] then return 0 end
set_next(ARGV[1], ARGV[4])
for e = 0, tonumber(ARGV[5]) - 1 do put_entry(ARGV[1], 6 + 3 * e) end
return 1
