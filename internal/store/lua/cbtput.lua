-- Stores a CBT task, or what of it its owner may change.
-- KEYS[1] partition root
-- ARGV 1 task, 2 version that it must have (0: it must not exist), 3 JSON
-- Returns 1 when written, 0 when it has another version, -1 when it does not exist (or,
--   for version 0, when it does).
local key = R .. ':cbt:' .. ARGV[1]
local have = redis.call('HMGET', key, 'v', 'def')
-- The same write again: the reply to the first was lost on its way.
if have[2] == ARGV[3] then return 1 end
if ARGV[2] == '0' then
  if have[1] or redis.call('HEXISTS', R .. ':job', ARGV[1]) + redis.call('HEXISTS', R .. ':group', ARGV[1]) > 0 then return -1 end
  redis.call('SADD', R .. ':cbts', ARGV[1])
  redis.call('HSET', key, 'st', 'Created')
elseif not have[1] then
  return -1
elseif have[1] ~= ARGV[2] then
  return 0
end
redis.call('HSET', key, 'def', ARGV[3], 'up', NOW)
redis.call('HINCRBY', key, 'v', 1)
return 1
