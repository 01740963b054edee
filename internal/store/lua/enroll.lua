-- Lists jobs in a group. The outbox entry has their claims checked, since one that
-- was slow to come may have been undone.
-- KEYS[1] partition root of the group
-- ARGV 1 group, 2 most members, then the jobs
-- Returns {'ok', now in ms} , {'missing'} or {'full', members now}.
if redis.call('HEXISTS', R .. ':group', ARGV[1]) == 0 then return {'missing'} end
local key = R .. ':members:' .. ARGV[1]
local fresh, named = 0, {}
for k = 3, #ARGV do
  if not named[ARGV[k]] and not redis.call('ZSCORE', key, ARGV[k]) then fresh = fresh + 1 end
  named[ARGV[k]] = true
end
local have = redis.call('ZCARD', key)
if have + fresh > tonumber(ARGV[2]) then return {'full', have} end
redis.call('INCR', R .. ':edits')
-- Scores keep the order of adding, also within one millisecond.
local score = NOW
local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
if last[2] and tonumber(last[2]) >= score then score = tonumber(last[2]) + 1 end
for k = 3, #ARGV do
  if redis.call('ZADD', key, 'NX', score, ARGV[k]) == 1 then score = score + 1 end
  redis.call('ZADD', R .. ':outbox', NOW, 'member|' .. ARGV[1] .. '|' .. ARGV[k])
end
return {'ok', NOW}
