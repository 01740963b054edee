-- Removes a tombstone with its ledger.
-- KEYS[1] trigger partition root
-- ARGV 1 trigger, 2 version that the tombstone has
-- Returns 1, or 0 when it has another one by now, or is gone.
local uuid, undecided = ARGV[1], R .. ':undecided'
local row = redis.call('HGET', R .. ':trigger', uuid)
if not row or string.match(row, '^(%d+)|') ~= ARGV[2] then return 0 end
for _, id in ipairs(redis.call('ZRANGE', R .. ':led:' .. uuid, 0, -1)) do
  redis.call('ZREM', undecided, uuid .. '/' .. id)
end
for id in string.gmatch(redis.call('HGET', R .. ':open', uuid) or '', ',([^|]+)|') do
  redis.call('ZREM', undecided, uuid .. '/' .. id)
end
for _, hash in ipairs({':open', ':early', ':next', ':trigger'}) do redis.call('HDEL', R .. hash, uuid) end
redis.call('ZREM', R .. ':edited', uuid)
redis.call('DEL', R .. ':led:' .. uuid, R .. ':row:' .. uuid, R .. ':day:' .. uuid)
return 1
