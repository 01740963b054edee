-- Removes a plan that no run was admitted with.
-- KEYS[1] partition root
-- ARGV 1 plan hash
-- Returns 1 when it was removed.
redis.call('ZREM', R .. ':timers', 'plan|' .. ARGV[1])
local refs = redis.call('HGET', R .. ':plan:' .. ARGV[1], 'refs')
if refs and tonumber(refs) <= 0 then return redis.call('DEL', R .. ':plan:' .. ARGV[1]) end
return 0
