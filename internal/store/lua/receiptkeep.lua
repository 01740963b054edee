-- Renews the lease of a receipt's holder.
-- KEYS[1] root "takt:{r:N}", see receiptopen.lua
-- ARGV 1 id, 2 holder, 3 lease ms
-- Returns 1, or 0 when another one holds it or it is finished.
local row = R .. ':receipt:' .. ARGV[1]
if redis.call('HGET', row, 'holder') ~= ARGV[2] then return 0 end
redis.call('ZADD', R .. ':open', 'XX', NOW + ARGV[3], ARGV[1])
return 1
