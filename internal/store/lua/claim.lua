-- Claims jobs for a group: all of this partition's, or none. The claim holds
-- once the group lists the job; until then the outbox entry undoes it. was:<job>
-- keeps the groups that ever claimed it, for its history: the latest 64 of them.
-- KEYS[1] partition root
-- ARGV 1 group, then the jobs
-- Returns {'ok'}, {'missing', job} or {'taken', job, group}.
for k = 2, #ARGV do
  if redis.call('HEXISTS', R .. ':job', ARGV[k]) == 0 then return {'missing', ARGV[k]} end
  local group = redis.call('HGET', R .. ':jobgroup', ARGV[k])
  if group and group ~= ARGV[1] then return {'taken', ARGV[k], group} end
end
for k = 2, #ARGV do
  redis.call('HSET', R .. ':jobgroup', ARGV[k], ARGV[1])
  redis.call('ZADD', R .. ':outbox', NOW, 'member|' .. ARGV[1] .. '|' .. ARGV[k])
  local was = R .. ':was:' .. ARGV[k]
  redis.call('ZADD', was, NOW, ARGV[1])
  redis.call('ZREMRANGEBYRANK', was, 0, -65)
  redis.call('PERSIST', was) -- it was a deleted job's, perhaps
end
return {'ok'}
