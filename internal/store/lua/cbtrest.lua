-- Puts off the next look at a CBT task. One that is not to be looked at loses the timer.
-- KEYS[1] partition root
-- ARGV 1 task, 2 ms from now
-- Returns 1 when the task will be looked at.
local h = redis.call('HMGET', R .. ':cbt:' .. ARGV[1], 'st', 'prun')
if h[1] ~= 'Running' or h[2] then
  redis.call('ZREM', R .. ':timers', 'cbt|' .. ARGV[1])
  return 0
end
redis.call('ZADD', R .. ':timers', NOW + ARGV[2], 'cbt|' .. ARGV[1])
return 1
