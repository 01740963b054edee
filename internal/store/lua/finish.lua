-- Records the end of an attempt.
-- KEYS[1] partition root
-- ARGV 1 run, 2 step, 3 fence, 4 worker, 5 outcome letter (s f t x), 6 exit code,
--   7 reason, 8 output, 9 ms until the next attempt or -1
-- Returns {word, step letter, run letter or '', {runs to expand}};
--   word is ok; late: the step had ended before (it was canceled or timed out)
--   and only the attempt was kept; or stale: another dispatch has taken over.
local run, i, outcome = ARGV[1], ARGV[2], ARGV[5]
local s = get_step(run, i)
if not s or s.fc .. '-' .. s.fr ~= ARGV[3] or s.w ~= ARGV[4] then return {'stale', '', '', {}} end
if s.st ~= 'r' and s.st ~= 'c' then
  if s.st == outcome and s.t1 > 0 then return {'ok', s.st, '', {}} end
  -- It failed, waits for its retry, and the reply was lost.
  if s.st == 'w' and string.sub(redis.call('HGET', runkey(run), 'a' .. i .. '.' .. s.n) or '', 1, 1) == outcome then
    return {'ok', 'w', '', {}}
  end
  if s.n > 0 and redis.call('HSETNX', runkey(run), 'a' .. i .. '.' .. s.n,
      table.concat({outcome, s.w, s.t0, NOW, ARGV[6], ARGV[7]}, '|')) == 1 and ARGV[8] ~= '' then
    redis.call('HSET', R .. ':out:' .. run, i .. '.' .. s.n, ARGV[8])
  end
  return {'late', s.st, '', {}}
end
redis.call('ZREM', R .. ':outbox', 'stop|' .. s.w .. '|' .. dispatch_id(run, i, s))
if ARGV[8] ~= '' then redis.call('HSET', R .. ':out:' .. run, i .. '.' .. s.n, ARGV[8]) end
if s.st == 'r' and (outcome == 'f' or outcome == 't') then
  s.bad = s.bad + 1
  if tonumber(ARGV[9]) >= 0 then
    archive(run, i, s, outcome, ARGV[6], ARGV[7])
    redis.call('HDEL', R .. ':live', dispatch_id(run, i, s))
    redis.call('HINCRBY', R .. ':count', 'retry', 1)
    s.st, s.txt = 'w', 'attempt ' .. s.n .. ' failed: ' .. ARGV[7]
    put_step(run, i, s)
    redis.call('ZADD', R .. ':timers', NOW + tonumber(ARGV[9]), 'retry|' .. run .. ':' .. i .. ':' .. s.fc)
    return {'ok', 'w', '', {}}
  end
end
local st = outcome
if s.st == 'c' then
  st = redis.call('HGET', runkey(run), 'end') or 'x'
  if outcome ~= st then archive(run, i, s, outcome, ARGV[6], ARGV[7]) end
  s.code, s.txt = ARGV[6], redis.call('HGET', runkey(run), 'why') or ''
else
  s.code, s.txt = ARGV[6], ARGV[7]
end
end_step(run, i, s, st)
return {'ok', st, settle_run(run), STARTED}
