-- Removes an ended run and all that hangs on it, at the end of its retention.
-- KEYS[1] partition root
-- ARGV 1 run
-- Returns 1, or 0 when the run is unknown or has not ended.
local run = ARGV[1]
redis.call('ZREM', R .. ':timers', 'forget|' .. run)
local h = redis.call('HMGET', runkey(run), 'st', 'pl', 'tg', 'tr')
if not h[1] or h[1] == 'p' or h[1] == 'r' or h[1] == 'c' then return 0 end
redis.call('ZREM', R .. ':runs', run)
redis.call('ZREM', R .. ':runs:' .. h[3], run)
if h[4] then redis.call('ZREM', R .. ':runs:by:' .. h[4], run) end
redis.call('DEL', runkey(run), R .. ':out:' .. run, R .. ':logz:' .. run)
if redis.call('HINCRBY', R .. ':plan:' .. h[2], 'refs', -1) <= 0 then
  redis.call('DEL', R .. ':plan:' .. h[2])
  redis.call('ZREM', R .. ':timers', 'plan|' .. h[2])
end
return 1
