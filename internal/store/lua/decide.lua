-- Writes what became of a fire into its ledger entry, once.
-- KEYS[1] trigger partition root
-- ARGV 1 trigger, 2 entry id, 3 slot in ms, 4 decision, 5 runs, 6 reason, 7 row to
--   make when the entry has none, 8 ms behind its slot from which on a fired slot is
--   late
-- Returns 1, or 0 when it was decided before, or is a slot that is yet to come.
local uuid, id, slot = ARGV[1], ARGV[2], ARGV[3]
local row = redis.call('HGET', ROW .. uuid, id)
local e = parse_entry(row or ARGV[7])
if e.decision ~= '' then return 0 end
if not row then
  if not take_open(uuid, id) and e.manual == '0' then
    if covering(uuid, e.rev, slot) then return 0 end
    local to_come = ahead(uuid, e.rev, slot)
    if to_come > 0 then return 0 end
    if to_come == 0 then redis.call('HSET', EARLY, uuid, id) end
  end
  redis.call('ZADD', LED .. uuid, slot, id)
end
e.dec, e.decision, e.runs, e.reason = NOW_TEXT, ARGV[4], ARGV[5], ARGV[6]
if e.decision == 'fired' and e.manual == '0' and NOW - tonumber(e.from) >= tonumber(ARGV[8]) then e.decision = 'late' end
redis.call('ZREM', R .. ':undecided', uuid .. '/' .. id)
save_entry(uuid, id, e)
count_day(uuid, e.from, e.decision, e.count)
merge_back(uuid, id, e)
return 1
