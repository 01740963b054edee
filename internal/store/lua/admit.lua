-- Decides about a run request once and for all, and makes the run.
-- KEYS[1] partition root
-- ARGV 1 request id, 2 run id, 3 target, 4 overlap policy letter (a allow, s skip,
--   1 buffer_one, b buffer_all, o cancel_other, j skip_steps), 5 buffer limit,
--   6 steps in all, 7 plan hash, 8 meta JSON, 9 random part of fences,
--   10 trigger or '', 11 run timeout in ms or 0, 12 backlog limit,
--   13 ms to remember the decision, 0 when nobody will ask again under this request,
--   14 retention of the ended run in ms,
--   15 number g of stretches of steps that go one way, then g times steps, queue, wait
--   reason, then with policy j the job of each of these steps.
-- Returns {word, run id, reason, {numbers of steps that were skipped}, {worker, dispatch
--   id, ...} to stop, {runs to expand}, creation stamp of a run that was made, now}; word is
--   started | buffered | skipped; noplan: store the plan and ask again;
--   busy: the backlog is full, nothing was changed; a repeated request
--   returns the stored decision with the word prefixed by "again-", or, when that
--   was forgotten, what the run itself tells.
local reqkey = R .. ':req:' .. ARGV[1]
local remember = ARGV[13] ~= '0'
local known = remember and redis.call('GET', reqkey)
if known then
  local word, run, reason = string.match(known, '^(%a+)|([^|]*)|(.*)$')
  return {'again-' .. word, run, reason, {}, {}, {}}
end
local run, target, policy, n = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[6])
-- The id of a fired run follows from its slot: a fire that comes again after its
-- decision was forgotten finds its run.
local there = redis.call('HMGET', runkey(run), 'st', 'go', 'why')
if there[1] == 'p' and not there[2] then return {'again-buffered', run, there[3] or '', {}, {}, {}} end
if there[1] then return {'again-started', run, '', {}, {}, {}} end
if redis.call('ZCARD', R .. ':sent') + (redis.call('GET', R .. ':waiting') or 0) + redis.call('ZCARD', R .. ':parked') >= tonumber(ARGV[12]) then
  return {'busy', '', '', {}, {}, {}}
end

local act, buf = R .. ':act:' .. target, R .. ':buf:' .. target
local word, reason = 'started', ''
if policy ~= 'a' and policy ~= 'j' and redis.call('ZCARD', act) > 0 then
  if policy == 's' then
    word, reason = 'skipped', 'an earlier run of the target has not ended (overlap skip)'
  elseif policy == '1' and redis.call('ZCARD', buf) >= 1 then
    word, reason = 'skipped', 'a run is waiting already (overlap buffer_one)'
  elseif policy == 'b' and redis.call('ZCARD', buf) >= tonumber(ARGV[5]) then
    word, reason = 'skipped', 'the buffer is full (overlap buffer_all, limit ' .. ARGV[5] .. ')'
  else
    word, reason = 'buffered', 'waits for an earlier run of the target to end'
  end
end
if word == 'skipped' then
  if remember then redis.call('SET', reqkey, word .. '||' .. reason, 'PX', ARGV[13]) end
  return {word, '', reason, {}, {}, {}}
end

-- A plan that a run was admitted with is whole. Others may be in the making.
local plan = R .. ':plan:' .. ARGV[7]
if redis.call('HINCRBY', plan, 'refs', 1) == 1 then
  local stored = redis.call('HLEN', plan) - 1
  if stored ~= n then
    if stored == 0 then redis.call('DEL', plan) else redis.call('HINCRBY', plan, 'refs', -1) end
    return {'noplan', '', '', {}, {}, {}}
  end
end

local newest = redis.call('ZRANGE', R .. ':runs', -1, -1, 'WITHSCORES')[2]
local stamp = math.max(NOW, (tonumber(newest) or 0) + 1)
if remember then redis.call('SET', reqkey, word .. '|' .. run .. '|' .. reason, 'PX', ARGV[13]) end
local at = whole(stamp)
local fields = {'m', ARGV[8], 'st', 'p', 'cr', at, 'n', ARGV[6],
  'pl', ARGV[7], 'tg', target, 'pol', policy, 'ret', ARGV[14]}
redis.call('ZADD', R .. ':runs', at, run)
redis.call('ZADD', R .. ':runs:' .. target, at, run)
if ARGV[10] ~= '' then
  fields[#fields + 1], fields[#fields + 2] = 'tr', ARGV[10]
  redis.call('ZADD', R .. ':runs:by:' .. ARGV[10], at, run)
end
if ARGV[11] ~= '0' then
  local deadline = whole(NOW + ARGV[11])
  fields[#fields + 1], fields[#fields + 2] = 'dl', deadline
  redis.call('ZADD', R .. ':timers', deadline, 'deadline|' .. run)
end
if word == 'buffered' then
  local told = {}
  redis.call('HSET', runkey(run), 'cur', '0', 'why', reason, unpack(fields))
  if policy == 'o' then
    for _, other in ipairs(redis.call('ZRANGE', buf, 0, -1)) do
      cancel_run(other, 'replaced by a later run (overlap cancel_other)', 'x', told)
    end
    redis.call('ZADD', buf, stamp, run)
    for _, other in ipairs(redis.call('ZRANGE', act, 0, -1)) do
      cancel_run(other, 'replaced by a later run (overlap cancel_other)', 'x', told)
    end
  else
    redis.call('ZADD', buf, stamp, run)
  end
  return {word, run, reason, {}, told, STARTED, stamp, NOW}
end
redis.call('ZADD', act, at, run)
fields[#fields + 1], fields[#fields + 2] = 'go', '1'
local skipped = expand(run, policy, target, n, 0, 15, ARGV[9], fields)
return {word, run, reason, skipped, {}, STARTED, stamp, NOW}
