-- Stores a part of a plan. A plan is named by the hash of its content, so runs
-- of an unchanged group share one; refs counts the runs that use it.
-- KEYS[1] partition root
-- ARGV 1 plan hash, 2 index of the first step given, then one JSON text per step.
-- Returns the number of steps stored so far.
local key = R .. ':plan:' .. ARGV[1]
local from = tonumber(ARGV[2])
for k = 3, #ARGV do redis.call('HSET', key, from + k - 3, ARGV[k]) end
if redis.call('HSETNX', key, 'refs', 0) == 1 then
  -- Removed an hour later unless a run was admitted with it.
  redis.call('ZADD', R .. ':timers', NOW + 3600000, 'plan|' .. ARGV[1])
end
return redis.call('HLEN', key) - 1
