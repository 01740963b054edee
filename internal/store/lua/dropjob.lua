-- Deletes a job. What other keys must learn is left in the outbox.
-- KEYS[1] partition root
-- ARGV 1 job, 2 ms for which its history may be asked for
-- Returns {existed, group or '', triggers...}.
if redis.call('HDEL', R .. ':job', ARGV[1]) == 0 then return {0, ''} end
redis.call('INCR', R .. ':edits')
local group = redis.call('HGET', R .. ':jobgroup', ARGV[1]) or ''
redis.call('HDEL', R .. ':jobgroup', ARGV[1])
redis.call('PEXPIRE', R .. ':was:' .. ARGV[1], ARGV[2])
if group ~= '' then redis.call('ZADD', R .. ':outbox', NOW, 'member|' .. group .. '|' .. ARGV[1]) end
local out = {1, group}
for _, trigger in ipairs(redis.call('SMEMBERS', R .. ':links:' .. ARGV[1])) do
  redis.call('ZADD', R .. ':outbox', NOW, 'link|job|' .. ARGV[1] .. '|' .. trigger)
  out[#out + 1] = trigger
end
return out
