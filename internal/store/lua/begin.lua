-- Begins an attempt.
-- KEYS[1] partition root
-- ARGV 1 run, 2 step, 3 fence, 4 worker, 5 grace in ms added to the deadline
-- Returns {word, attempt number, counted failures, plan step JSON, meta JSON, now}; word is
--   ok; or stale: this dispatch is not the step's latest, or the step is not
--   waiting for it. Called again by the same worker it returns ok again, since
--   the reply to the first call may have been lost.
local run, i = ARGV[1], ARGV[2]
local s = get_step(run, i)
if not s or s.fc .. '-' .. s.fr ~= ARGV[3] then return {'stale'} end
if s.st ~= 'd' and not (s.st == 'r' and s.w == ARGV[4]) then return {'stale'} end
local key = runkey(run)
local h = redis.call('HMGET', key, 'pl', 'm', 'st')
local timeout, step = string.match(redis.call('HGET', R .. ':plan:' .. h[1], i), '^(%d+)|(.*)$')
if s.st == 'd' then
  local id = dispatch_id(run, i, s)
  s.st, s.n, s.w, s.t0, s.t1 = 'r', s.n + 1, ARGV[4], NOW, 0
  put_step(run, i, s)
  redis.call('ZREM', R .. ':sent', id)
  redis.call('HSET', R .. ':live', id, ARGV[4] .. '|' .. NOW + tonumber(timeout) + tonumber(ARGV[5]))
  if h[3] == 'p' then redis.call('HSET', key, 'st', 'r', 't0', NOW) end
end
return {'ok', s.n, s.bad, step, h[2], NOW}
