-- Stores the answer of a receipt and drops what was asked. One with a hook stays
-- among the unfinished: anybody may tell.
-- KEYS[1] root "takt:{r:N}", see receiptopen.lua
-- ARGV 1 id, 2 holder, 3 ms to keep it, 4 1 for a success or 0, 5 answer, 6 ms to
--   keep it at least while its hook is untold
-- Returns 1, 0 when another one holds it or has closed it, -1 when it is forgotten.
local row = R .. ':receipt:' .. ARGV[1]
if redis.call('EXISTS', row) == 0 then
  redis.call('ZREM', R .. ':open', ARGV[1])
  return -1
end
-- The same again: the reply to the first call was lost.
if redis.call('HGET', row, 'closer') == ARGV[2] then return 1 end
if redis.call('HGET', row, 'holder') ~= ARGV[2] or redis.call('HEXISTS', row, 'ended') == 1 then return 0 end
redis.call('HDEL', row, 'asked', 'holder', 'tries')
redis.call('HSET', row, 'closer', ARGV[2], 'ended', NOW, 'ok', ARGV[4], 'body', ARGV[5])
redis.call('PEXPIRE', row, ARGV[3])
if redis.call('HEXISTS', row, 'hook') == 1 then
  redis.call('PEXPIRE', row, math.max(tonumber(ARGV[3]), tonumber(ARGV[6])))
  redis.call('ZADD', R .. ':open', NOW, ARGV[1])
else
  redis.call('ZREM', R .. ':open', ARGV[1])
end
return 1
