-- Notes at a target that its link with a trigger is about to be settled by what is read
-- from now on. Who notes it later reads later, and only the last one may write: see
-- setlink.lua. The note is the link's outbox entry, so that a crash leaves it.
-- KEYS[1] partition root of the target
-- ARGV 1 kind (job or group), 2 target, 3 outbox entry of the link
-- Returns {1 when the target exists, when it was noted}; the latter is never given twice
--   while the note stands.
local at = math.max(NOW, (tonumber(redis.call('ZSCORE', R .. ':outbox', ARGV[3])) or 0) + 1)
redis.call('ZADD', R .. ':outbox', at, ARGV[3])
return {redis.call('HEXISTS', R .. ':' .. ARGV[1], ARGV[2]), string.format('%.0f', at)}
