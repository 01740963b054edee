-- Begins a transition of a CBT task, or changes its status without one. A transition
-- takes the place of a look; a look takes nobody's, and leaves the version. The run's end
-- is applied by settle_run.
-- The fields of a task are def (JSON of what is fixed, or its owner's to change), v
-- (version), up (ms of the last change), st (status), why (it failed last), r<i> (record
-- of machine i), past (transitions that ended, a line of JSON each, the latest first),
-- seq (of the last enable or backup), since and orun (of the last enable). While a transition is under way also prun
-- (its run), p (JSON without the orders), ord (JSON of the orders), ms
-- ("<index>=<machine>", one per step, with commas between), then and else (status when
-- the run has succeeded, and when not; then is '' for delete), only ('' or, of a look:
-- with any other exit code than this one a failed step is no reason for else).
-- KEYS[1] partition root
-- ARGV 1 task, 2 version that it must have, 3 new status or '', 4 run or '' for none,
--   5 to 10 p, ord, ms, then, else and only, then more fields to set and values
-- Returns 1 when done, 0 when the task has another version or a transition is under way,
--   -1 when it does not exist.
local key = R .. ':cbt:' .. ARGV[1]
local h = redis.call('HMGET', key, 'v', 'st', 'prun', 'only', 'past')
local run, look = ARGV[4], ARGV[10] ~= ''
if not h[1] then return -1 end
-- The same call again: the reply to the first was lost on its way.
if run ~= '' and (h[3] == run or string.find(h[5] or '', run, 1, true)) then return 1 end
if h[1] ~= ARGV[2] or h[3] and (look or h[4] == '') or look and h[2] ~= 'Running' then return 0 end

redis.call('ZREM', R .. ':timers', 'cbt|' .. ARGV[1])
redis.call('ZREM', R .. ':outbox', 'cbt|' .. ARGV[1])
redis.call('HDEL', key, 'p', 'ord', 'prun', 'then', 'else', 'only', 'ms')
if run ~= '' then
  redis.call('HSET', key, 'prun', run, 'p', ARGV[5], 'ord', ARGV[6], 'ms', ARGV[7], 'then', ARGV[8], 'else', ARGV[9], 'only', ARGV[10])
  redis.call('ZADD', R .. ':outbox', NOW, 'cbt|' .. ARGV[1])
end
if look then return 1 end
if ARGV[3] ~= '' then redis.call('HSET', key, 'st', ARGV[3]) end
if ARGV[3] == 'Stopped' or ARGV[3] == 'Starting' then redis.call('HDEL', key, 'why') end
if #ARGV > 10 then redis.call('HSET', key, unpack(ARGV, 11)) end
redis.call('HSET', key, 'up', NOW)
redis.call('HINCRBY', key, 'v', 1)
return 1
