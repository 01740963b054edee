-- Replaces an answer that is given once only.
-- KEYS[1] root "takt:{r:N}", see receiptopen.lua
-- ARGV 1 id, 2 the answer it had, 3 the answer from now on
-- Returns 1 for the one who may give it, else 0.
local row = R .. ':receipt:' .. ARGV[1]
if redis.call('HGET', row, 'body') ~= ARGV[2] then return 0 end
redis.call('HSET', row, 'body', ARGV[3])
return 1
