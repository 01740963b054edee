-- Writes at a target whether a trigger is bound to it, and takes the note of it out of
-- the outbox, unless the link was noted anew meanwhile: then others know more.
-- KEYS[1] partition root of the target
-- ARGV 1 target, 2 trigger, 3 SADD when it is bound, or SREM, 4 outbox entry of the link,
--   5 when it was noted
-- Returns 1 when it was written.
if redis.call('ZSCORE', R .. ':outbox', ARGV[4]) ~= ARGV[5] then return 0 end
redis.call(ARGV[3], R .. ':links:' .. ARGV[1], ARGV[2])
return redis.call('ZREM', R .. ':outbox', ARGV[4])
