-- Claims a machine for a CBT task. The claim is "<task>|<ms>"; it is confirmed, with 1 for
-- the time, once the task exists, and until then the outbox entry undoes it.
-- KEYS[1] partition root of the machine
-- ARGV 1 machine, 2 task, 3 a claim whose task does not exist, or '', 4 ms from which on
--   such a one is void
-- Returns '' when it is claimed, else the claim that stands.
local row = redis.call('HGET', R .. ':cbtvm', ARGV[1])
if row then
  local task, at = string.match(row, '^(%x+)|(%d+)$')
  if task ~= ARGV[2] and (row ~= ARGV[3] or NOW - at < tonumber(ARGV[4])) then return row end
  if task == ARGV[2] and at == '1' then return '' end
end
redis.call('HSET', R .. ':cbtvm', ARGV[1], ARGV[2] .. '|' .. string.format('%d', NOW))
redis.call('ZADD', R .. ':outbox', NOW, 'cbtvm|' .. ARGV[2] .. '|' .. ARGV[1])
return ''
