-- Dispatches steps again, each by a compare-and-set.
-- KEYS[1] partition root
-- ARGV 1 what happened: wait (a waiting step may go: its retry is due or a worker
--   is back), sent (the dispatch was lost on its way), lost (the worker vanished),
--   released (the worker hands it back), 2 random part of fences,
--   3 lost attempts from which on a step fails, then per step 4 values:
--   dispatch id (for wait any id with the step's fence counter), worker or '',
--   queue, wait reason.
-- Returns {runs ended, {dispatch id, queue, ...}, {runs to expand}}: the first is a count.
local out, ended = {}, 0
for k = 4, #ARGV, 4 do
  local run, i, fc, fr = string.match(ARGV[k], '^(%x+):(%d+):(%d+)%-(%x*)$')
  local worker, q, why = ARGV[k + 1], ARGV[k + 2], ARGV[k + 3]
  local s = get_step(run, i)
  local same = s and s.fc == tonumber(fc) and (s.fr == fr or ARGV[1] == 'wait')
  if ARGV[1] == 'wait' then
    redis.call('ZREM', R .. ':timers', 'retry|' .. run .. ':' .. i .. ':' .. fc)
    if not s then redis.call('ZREM', R .. ':parked', run .. ':' .. i) end
    if same and s.st == 'w' then send(run, i, s, q, why, ARGV[2], out) end
  elseif ARGV[1] == 'sent' then
    if same and s.st == 'd' then
      redis.call('ZREM', R .. ':sent', ARGV[k])
      send(run, i, s, q, why, ARGV[2], out)
      redis.call('HINCRBY', R .. ':count', 'redispatch', 1)
    else
      redis.call('ZREM', R .. ':sent', ARGV[k])
    end
  elseif same and (s.st == 'r' or s.st == 'c') and s.w == worker then
    redis.call('HDEL', R .. ':live', ARGV[k])
    redis.call('HINCRBY', R .. ':count', ARGV[1], 1)
    redis.call('ZREM', R .. ':outbox', 'stop|' .. s.w .. '|' .. ARGV[k])
    archive(run, i, s, ARGV[1] == 'lost' and 'l' or 'R', 0, ARGV[1] == 'lost' and 'the worker vanished' or 'the worker handed it back')
    if ARGV[1] == 'lost' then s.lost = s.lost + 1 end
    if s.st == 'c' then
      s.txt = redis.call('HGET', runkey(run), 'why') or ''
      end_step(run, i, s, redis.call('HGET', runkey(run), 'end') or 'x')
      if settle_run(run) ~= '' then ended = ended + 1 end
    elseif s.lost >= tonumber(ARGV[3]) then
      s.txt = 'its worker was lost ' .. s.lost .. ' times; the job may be what kills it'
      end_step(run, i, s, 'f')
      if settle_run(run) ~= '' then ended = ended + 1 end
    else
      send(run, i, s, q, why, ARGV[2], out)
    end
  elseif not same or (s.st ~= 'r' and s.st ~= 'c') then
    -- Ended or taken over meanwhile: only the stale mark goes.
    redis.call('HDEL', R .. ':live', ARGV[k])
  end
end
return {ended, out, STARTED}
