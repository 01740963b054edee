-- Cancels a run, at most 500 steps a call.
-- KEYS[1] partition root
-- ARGV 1 run, 2 reason, 3 end state letter (x canceled, t timed out), 4 timer or ''
--   to remove
-- Returns {word, state letter before, {worker, dispatch id, ...} to stop, {runs to
--   expand}}: word is done, more (call again) or missing.
local st = redis.call('HGET', runkey(ARGV[1]), 'st')
if ARGV[4] ~= '' then redis.call('ZREM', R .. ':timers', ARGV[4]) end
if not st then
  redis.call('ZREM', R .. ':outbox', 'cancel|' .. ARGV[1])
  return {'missing', '', {}, {}}
end
local out = {}
local all = cancel_run(ARGV[1], ARGV[2], ARGV[3], out)
return {all and 'done' or 'more', st, out, STARTED}
