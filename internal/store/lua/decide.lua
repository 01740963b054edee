-- Writes what became of a fire into its ledger entry, once.
-- KEYS[1] trigger partition root
-- ARGV 1 trigger, 2 entry id, 3 slot in ms, 4 decision, 5 runs, 6 reason, 7 row to
--   make when the publisher has not written the entry yet, 8 ms behind its slot from
--   which on a fired slot is late
-- Returns 1, or 0 when it was decided before.
local row = redis.call('HGET', R .. ':row:' .. ARGV[1], ARGV[2])
local e = parse_entry(row or ARGV[7])
if e.decision ~= '' then return 0 end
if not row then
  if e.manual == '0' and covering(ARGV[1], e.rev, ARGV[3]) then return 0 end
  redis.call('ZADD', R .. ':led:' .. ARGV[1], ARGV[3], ARGV[2])
end
e.dec, e.decision, e.runs, e.reason = string.format('%d', NOW), ARGV[4], ARGV[5], ARGV[6]
if e.decision == 'fired' and e.manual == '0' and NOW - tonumber(e.from) >= tonumber(ARGV[8]) then e.decision = 'late' end
redis.call('ZREM', R .. ':undecided', ARGV[1] .. '/' .. ARGV[2])
save_entry(ARGV[1], ARGV[2], e)
count_day(ARGV[1], e.from, e.decision, e.count)
merge_back(ARGV[1], ARGV[2], e)
return 1
