-- Records the ends of attempts.
-- KEYS[1] partition root
-- ARGV per attempt 9 values: run, step, fence, worker, outcome letter (s f t x),
--   exit code, reason, output, ms until the next attempt or -1
-- Returns per attempt 'word|step letter|run letter or nothing', or a list of that and
--   the runs to expand where there are any; word is ok; late: the step had ended
--   before (it was canceled or timed out) and only the attempt was kept; or stale:
--   another dispatch has taken over.

-- What end_step does for a step that has begun, and so is in no list of those that
-- wait, is done for all steps of this call together.
local COUNTER = {s = 2, f = 3, x = 4, t = 5, k = 6}
local ended, ended_as, out = {}, {}, {}

local function end_begun(g, run, i, fence, st, row)
  write_row(g, i, row)
  local c = COUNTER[st]
  g.head[c] = (g.head[c] or 0) + 1
  g.counted = g.counted or {}
  g.counted[st] = c
  g.last = #out + 1 -- where the answer to this attempt goes
  ended[#ended + 1] = run .. ':' .. i .. ':' .. fence
  ended_as[st] = (ended_as[st] or 0) + 1
  if g.head[7] == 'j' then free_job(run, i) end
  return 'ok|' .. st .. '|'
end

-- The result of a step that has ended already.
local function late(run, i, s, outcome, code, why, output)
  if s.st == outcome and s.t1 > 0 then return 'ok|' .. s.st .. '|' end
  -- It failed, waits for its retry, and the reply was lost.
  if s.st == 'w' and string.sub(redis.call('HGET', runkey(run), 'a' .. i .. '.' .. s.n) or '', 1, 1) == outcome then
    return 'ok|w|'
  end
  if s.n > 0 and redis.call('HSETNX', runkey(run), 'a' .. i .. '.' .. s.n,
      table.concat({outcome, s.w, s.t0, NOW, code, why}, '|')) == 1 and output ~= '' then
    redis.call('HSET', R .. ':out:' .. run, i .. '.' .. s.n, output)
  end
  return 'late|' .. s.st .. '|'
end

-- A step that was to stop, or has not succeeded.
local function finish_other(g, run, i, fence, s, outcome, code, why, retry)
  local st = outcome
  if s.st == 'c' then
    redis.call('ZREM', R .. ':outbox', 'stop|' .. s.w .. '|' .. run .. ':' .. i .. ':' .. fence)
    local told = redis.call('HMGET', runkey(run), 'end', 'why')
    st = told[1] or 'x'
    if outcome ~= st then archive(run, i, s, outcome, code, why) end
    why = told[2] or ''
  elseif outcome == 'f' or outcome == 't' then
    s.bad = s.bad + 1
    if tonumber(retry) >= 0 then
      archive(run, i, s, outcome, code, why)
      ended[#ended + 1] = run .. ':' .. i .. ':' .. fence
      redis.call('HINCRBY', R .. ':count', 'retry', 1)
      s.st, s.txt = 'w', 'attempt ' .. s.n .. ' failed: ' .. why
      write_row(g, i, step_row(s))
      redis.call('ZADD', R .. ':timers', NOW + tonumber(retry), 'retry|' .. run .. ':' .. i .. ':' .. s.fc)
      return 'ok|w|'
    end
  end
  s.st, s.t1, s.code, s.txt = st, NOW, code, why
  return end_begun(g, run, i, fence, st, step_row(s))
end

local function finish(g, run, i, fence, worker, outcome, code, why, output, retry)
  local row = g.rows[i]
  if not row then return 'stale||' end
  local st, fc, fr, n, mid, w, t0 = string.match(row, '^(%a)|(%d+)|(%x*)|(%d+)|(%d+|%d+|[^|]*)|([^|]*)|(%d+)|')
  if not st or fc .. '-' .. fr ~= fence or w ~= worker then return 'stale||' end
  if st ~= 'r' and st ~= 'c' then return late(run, i, read_step(row), outcome, code, why, output) end
  if output ~= '' then redis.call('HSET', R .. ':out:' .. run, i .. '.' .. n, output) end
  if st == 'c' or outcome ~= 's' then
    return finish_other(g, run, i, fence, read_step(row), outcome, code, why, retry)
  end
  return end_begun(g, run, i, fence, 's',
    's|' .. fc .. '|' .. fr .. '|' .. n .. '|' .. mid .. '|' .. w .. '|' .. t0 .. '|' .. NOW_TEXT .. '|' .. code .. '|' .. why)
end

local groups, order = read_rows(9, {'n', 'cs', 'cf', 'cx', 'ct', 'ck', 'pol'})
for k = 1, #ARGV, 9 do
  local g = groups[ARGV[k]]
  out[#out + 1] = finish(g, ARGV[k], ARGV[k + 1], ARGV[k + 2], ARGV[k + 3], ARGV[k + 4], ARGV[k + 5], ARGV[k + 6],
    ARGV[k + 7], ARGV[k + 8])
end
for _, g in ipairs(order) do
  for st, c in pairs(g.counted or {}) do
    g.writes[#g.writes + 1], g.writes[#g.writes + 2] = 'c' .. st, whole(g.head[c])
  end
  write_rows(g.run, g)
end
if #ended > 0 then redis.call('HDEL', R .. ':live', unpack(ended)) end
for st, n in pairs(ended_as) do redis.call('HINCRBY', R .. ':count', 'step.' .. st, n) end

-- Runs whose last step ended; told with the attempt that ended last.
for _, g in ipairs(order) do
  local open = tonumber(g.head[1] or 0)
  for c = 2, 6 do open = open - (g.head[c] or 0) end
  if g.counted and open <= 0 then
    STARTED = {}
    out[g.last] = out[g.last] .. settle_run(g.run)
    if #STARTED > 0 then out[g.last] = {out[g.last], unpack(STARTED)} end
  end
end
return out
