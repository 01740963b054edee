-- Takes a receipt that nobody holds, or whose holder's lease has ended.
-- KEYS[1] root "takt:{r:N}", see receiptopen.lua
-- ARGV 1 id, 2 new holder, 3 lease ms
-- Returns the present in ms and then the receipt's fields and values, or nothing
-- when it is held, finished or forgotten.
local row = R .. ':receipt:' .. ARGV[1]
local due = redis.call('ZSCORE', R .. ':open', ARGV[1])
if not due then return {} end
if redis.call('EXISTS', row) == 0 then
  redis.call('ZREM', R .. ':open', ARGV[1])
  return {}
end
local holder = redis.call('HGET', row, 'holder')
if holder ~= ARGV[2] then -- else the reply to the first call was lost
  if tonumber(due) > NOW then return {} end
  -- Only one that vanished leaves its name.
  if holder and holder ~= '' then redis.call('HINCRBY', row, 'lost', 1) end
  redis.call('HSET', row, 'holder', ARGV[2])
end
redis.call('ZADD', R .. ':open', NOW + ARGV[3], ARGV[1])
local out = redis.call('HGETALL', row)
table.insert(out, 1, tostring(NOW))
return out
