-- Deletes a group; its jobs become free. What other keys must learn is left in
-- the outbox.
-- KEYS[1] partition root
-- ARGV 1 group
-- Returns {existed, {members}, {triggers}}.
if redis.call('HDEL', R .. ':group', ARGV[1]) == 0 then return {0, {}, {}} end
redis.call('INCR', R .. ':edits')
local members = redis.call('ZRANGE', R .. ':members:' .. ARGV[1], 0, -1)
redis.call('DEL', R .. ':members:' .. ARGV[1])
for _, job in ipairs(members) do
  redis.call('ZADD', R .. ':outbox', NOW, 'member|' .. ARGV[1] .. '|' .. job)
end
local triggers = redis.call('SMEMBERS', R .. ':links:' .. ARGV[1])
for _, trigger in ipairs(triggers) do
  redis.call('ZADD', R .. ':outbox', NOW, 'link|group|' .. ARGV[1] .. '|' .. trigger)
end
return {1, members, triggers}
