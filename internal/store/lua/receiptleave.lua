-- Gives a receipt back, to be gone on with later, or as one whose hook is over.
-- KEYS[1] root "takt:{r:N}", see receiptopen.lua
-- ARGV 1 id, 2 holder, 3 tellings that failed, 4 ms until it may be taken, or -1
--   when its hook is over
-- Returns 1, or 0 when another one holds it.
local row = R .. ':receipt:' .. ARGV[1]
if redis.call('HGET', row, 'holder') ~= ARGV[2] then return 0 end
redis.call('HDEL', row, 'holder')
redis.call('HSET', row, 'tries', ARGV[3])
if ARGV[4] == '-1' then
  redis.call('HDEL', row, 'hook')
  redis.call('ZREM', R .. ':open', ARGV[1])
else
  redis.call('ZADD', R .. ':open', NOW + ARGV[4], ARGV[1])
end
return 1
