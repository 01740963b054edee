-- Notes at a target that a trigger is about to be bound to it, so that deleting
-- the target finds the trigger. The outbox entry has the note checked.
-- KEYS[1] partition root of the target
-- ARGV 1 kind (job or group), 2 target, 3 trigger, 4 most triggers of a target
-- Returns 1, 0 when the target does not exist, -1 when it has too many triggers.
if redis.call('HEXISTS', R .. ':' .. ARGV[1], ARGV[2]) == 0 then return 0 end
local key = R .. ':links:' .. ARGV[2]
if redis.call('SISMEMBER', key, ARGV[3]) == 0 and redis.call('SCARD', key) >= tonumber(ARGV[4]) then return -1 end
redis.call('SADD', key, ARGV[3])
redis.call('ZADD', R .. ':outbox', NOW, 'link|' .. ARGV[1] .. '|' .. ARGV[2] .. '|' .. ARGV[3])
return 1
