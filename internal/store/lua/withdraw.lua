-- Takes jobs out of a group's list; their claims are released by the outbox.
-- KEYS[1] partition root of the group
-- ARGV 1 group, then the jobs
-- Returns the number taken out.
redis.call('INCR', R .. ':edits')
local n = 0
for k = 2, #ARGV do
  if redis.call('ZREM', R .. ':members:' .. ARGV[1], ARGV[k]) == 1 then
    n = n + 1
    redis.call('ZADD', R .. ':outbox', NOW, 'member|' .. ARGV[1] .. '|' .. ARGV[k])
  end
end
return n
