-- Opens a fire by hand in the ledger.
-- KEYS[1] trigger partition root
-- ARGV 1 trigger, then the 3 values of put_entry.
-- Returns 1, or 0 when the trigger does not exist.
local row = redis.call('HGET', R .. ':trigger', ARGV[1])
if not row then return 0 end
put_entry(ARGV[1], 2)
settle_entries()
return 1
