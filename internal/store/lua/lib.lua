-- Prelude of every run script. KEYS[1] is the root of a partition,
-- "takt:{p:N}"; each key that a script touches is the root plus a suffix, so
-- all of them lie in one hash slot. The keys are:
--   <root>:run:<id>     hash, one run: meta, state, counters, one field per step
--   <root>:plan:<hash>  hash, one plan: field i = "<timeout in ms>|<step i as JSON>", refs = runs that use it
--   <root>:out:<id>     hash, outputs of a run's attempts: field "<step>.<attempt>"
--   <root>:logz:<id>    hash, compressed logs of a run's attempts
--   <root>:runs[:<target>|:by:<trigger>]  zsets of run ids by creation stamp
--   <root>:act:<target> zset of the target's runs that are under way
--   <root>:buf:<target> zset of the target's runs that wait for those to end
--   <root>:busy:<target> hash job -> "<run>:<step>" under overlap skip_steps
--   <root>:sent         zset of dispatches that have not begun, by time sent: one by one,
--                       or a stretch "<run>:<from>-<to>:1-<random part>"
--   <root>:waiting      steps of stretches that have not begun, less one a stretch: with
--                       the size of sent it gives the dispatches that have not begun
--   <root>:parked       zset of "<run>:<step>" that wait for a worker
--   <root>:live         hash of attempts under way: dispatch id -> "<worker>|<deadline>"
--   <root>:timers       zset of what is to happen, by when
--   <root>:outbox       zset of effects on other keys that are not yet confirmed
--   <root>:req:<id>     string, the stored decision of an admission
--   <root>:count        hash of counters kept at transitions
--   <root>:cbt:<task>   hash, one CBT task; its fields stand at the head of cbtmove.lua
--   <root>:cbts         set of the CBT tasks
--   <root>:cbtvm        hash machine -> "<task>|<ms>": the CBT task that it is claimed for
--
-- Steps that are dispatched together, one way, are a stretch. They have no fields until
-- something happens to them: the run's field `together` tells of them, a line
-- "<from>-<to>:<random part>:<queue>" a stretch, and `left` counts those without a field.
-- When none is left, both fields go, and the stretches from sent.
--
-- A step field is st|fc|fr|n|bad|lost|q|w|t0|t1|code|txt: state letter, fence
-- counter and random part, attempts, attempts counted as failures, attempts
-- lost, queue, worker, begin and end in ms, exit code, reason. State letters:
-- w waiting, d dispatched, r running, c canceling, s succeeded, f failed,
-- x canceled, t timed out, k skipped; runs use p pending and r c s f x t.
local R = KEYS[1]
local T = redis.call('TIME')
local NOW = T[1] * 1000 + math.floor(T[2] / 1000)

-- Writes a whole number. Lua's own conversion, which has fractions in mind, costs
-- as much as a command.
local function whole(n) return string.format('%d', n) end
local NOW_TEXT = whole(NOW)

-- Runs that this script let start: their steps are to be expanded.
local STARTED = {}

local function runkey(run) return R .. ':run:' .. run end

local function read_step(row)
  if not row then return nil end
  local s = {}
  local fc, n, bad, lost, t0, t1
  s.st, fc, s.fr, n, bad, lost, s.q, s.w, t0, t1, s.code, s.txt =
    string.match(row, '^(%a)|(%d+)|(%x*)|(%d+)|(%d+)|(%d+)|([^|]*)|([^|]*)|(%d+)|(%d+)|(%-?%d+)|(.*)$')
  s.fc, s.n, s.bad, s.lost, s.t0, s.t1 = tonumber(fc), tonumber(n), tonumber(bad), tonumber(lost), tonumber(t0), tonumber(t1)
  return s
end

local function step_row(s)
  return string.format('%s|%d|%s|%d|%d|%d|%s|%s|%d|%d|%s|',
    s.st, s.fc, s.fr, s.n, s.bad, s.lost, s.q, s.w, s.t0, s.t1, s.code) .. s.txt
end

local STRETCH = '(%d+)%-(%d+):(%x*):([^\n]*)\n'

-- The random part of the fence and the queue of a step of a stretch; nil for one that is
-- in none.
local function stretch_of(together, i)
  i = tonumber(i)
  for from, to, random, q in string.gmatch(together or '', STRETCH) do
    if i >= tonumber(from) and i < tonumber(to) then return random, q end
  end
end

-- Notes that k steps of a run's stretches have got fields.
local function leave_stretches(run, k)
  local key = runkey(run)
  if redis.call('HINCRBY', key, 'left', -k) > 0 then
    redis.call('INCRBY', R .. ':waiting', -k)
    return
  end
  local members = {}
  for from, to, random in string.gmatch(redis.call('HGET', key, 'together'), STRETCH) do
    members[#members + 1] = run .. ':' .. from .. '-' .. to .. ':1-' .. random
  end
  redis.call('ZREM', R .. ':sent', unpack(members))
  redis.call('HDEL', key, 'together', 'left')
  if k ~= #members then redis.call('INCRBY', R .. ':waiting', #members - k) end
end

local function new_step()
  return {st = 'w', fc = 0, fr = '', n = 0, bad = 0, lost = 0, q = '', w = '', t0 = 0, t1 = 0, code = '0', txt = ''}
end

local function get_step(run, i)
  local row = redis.call('HGET', runkey(run), 's' .. i)
  if row then return read_step(row) end
  local random, q = stretch_of(redis.call('HGET', runkey(run), 'together'), i)
  if not random then return nil end
  local s = new_step()
  s.st, s.fc, s.fr, s.q, s.of_stretch = 'd', 1, random, q, true
  return s
end

local function put_step(run, i, s)
  redis.call('HSET', runkey(run), 's' .. i, step_row(s))
  if s.of_stretch then
    s.of_stretch = nil
    leave_stretches(run, 1)
  end
end

local function dispatch_id(run, i, s) return run .. ':' .. i .. ':' .. whole(s.fc) .. '-' .. s.fr end

-- Keeps an attempt that is not told by its step's own row.
local function archive(run, i, s, state, code, txt)
  redis.call('HSET', runkey(run), 'a' .. i .. '.' .. s.n,
    table.concat({state, s.w, s.t0, NOW, code, txt}, '|'))
end

-- Raises the fence and sends the step to queue q, or parks it where q is ''.
-- Appends id and queue to out.
local function send(run, i, s, q, why, random, out)
  s.fc, s.fr, s.w, s.q = s.fc + 1, random, '', q
  if q == '' then
    s.st, s.txt = 'w', why
    redis.call('ZADD', R .. ':parked', 'NX', NOW, run .. ':' .. i)
  else
    s.st, s.txt = 'd', ''
    redis.call('ZREM', R .. ':parked', run .. ':' .. i)
    local id = dispatch_id(run, i, s)
    redis.call('ZADD', R .. ':sent', NOW, id)
    out[#out + 1] = id
    out[#out + 1] = q
  end
  put_step(run, i, s)
end

local function open_steps(run)
  local c = redis.call('HMGET', runkey(run), 'n', 'cs', 'cf', 'cx', 'ct', 'ck')
  local open = tonumber(c[1])
  for k = 2, 6 do open = open - (tonumber(c[k]) or 0) end
  return open, c
end

-- Deletes a CBT task. The claims on its machines are released by the outbox.
local function drop_cbt(task)
  local def = cjson.decode(redis.call('HGET', R .. ':cbt:' .. task, 'def'))
  for _, machine in ipairs(def.machines) do
    redis.call('ZADD', R .. ':outbox', NOW, 'cbtvm|' .. task .. '|' .. machine)
  end
  redis.call('ZREM', R .. ':outbox', 'cbt|' .. task)
  redis.call('ZREM', R .. ':timers', 'cbt|' .. task)
  redis.call('SREM', R .. ':cbts', task)
  redis.call('DEL', R .. ':cbt:' .. task)
end

-- Keeps the record that an attempt of step i has answered last, the first of two lines
-- of JSON, as that of the machine with this index.
local function keep_record(key, index, run, i, attempts)
  for n = attempts, 1, -1 do
    local out = redis.call('HGET', R .. ':out:' .. run, i .. '.' .. n)
    local record = out and string.match(out, '^({[^\n]*})\n')
    if record then return redis.call('HSET', key, 'r' .. index, record) end
  end
end

-- Applies the end of a run in state letter st to the CBT task whose transition it is.
local function settle_cbt(key, task, run, st, why)
  local h = redis.call('HMGET', key, 'p', 'then', 'else', 'only', 'ms', 'past', 'st')
  local to, look, blame, i = st == 's' and h[2] or h[3], h[4] ~= '', nil, 0
  local several = string.find(h[5], ',', 1, true)
  for index, machine in string.gmatch(h[5], '(%d+)=(%x+)') do
    local s = get_step(run, i)
    if s then keep_record(key, index, run, i, s.n) end
    if s and not blame and s.st ~= 's' and (not look or s.st == 'f' and s.code == h[4]) then
      blame = (several and 'machine ' .. machine .. ': ' or '') .. s.txt
    end
    i = i + 1
  end
  -- Only what a worker has seen counts against a task that was merely looked at.
  if look and not blame then to = h[2] end
  if to == '' then return drop_cbt(task) end
  redis.call('HDEL', key, 'p', 'ord', 'prun', 'then', 'else', 'only', 'ms')
  redis.call('ZREM', R .. ':outbox', 'cbt|' .. task)
  if to == 'Running' then redis.call('ZADD', R .. ':timers', NOW + 60000, 'cbt|' .. task) end
  if look and to == h[7] then return end
  if st ~= 's' then
    why = blame or why
    redis.call('HSET', key, 'why', why)
  elseif to ~= 'Failed' then
    redis.call('HDEL', key, 'why')
  end
  redis.call('HSET', key, 'st', to, 'up', NOW_TEXT)
  redis.call('HINCRBY', key, 'v', 1)
  if look then return end
  local past = {string.sub(h[1], 1, -2) .. ',"state":"' .. st .. '","reason":' .. cjson.encode(st ~= 's' and why or '')
    .. ',"ended":' .. NOW_TEXT .. '}'}
  for entry in string.gmatch(h[6] or '', '[^\n]+') do
    if #past < 8 then past[#past + 1] = entry end
  end
  redis.call('HSET', key, 'past', table.concat(past, '\n'))
end

-- Ends a run whose steps have all ended, and starts the next buffered run of
-- its target. Returns the state letter, or '' while steps are open.
local function settle_run(run)
  local open, c = open_steps(run)
  if open > 0 then return '' end
  local key = runkey(run)
  local h = redis.call('HMGET', key, 'st', 'tg', 'ret', 'why', 'end')
  if h[1] == 's' or h[1] == 'f' or h[1] == 'x' or h[1] == 't' then return '' end
  local st = 's'
  if h[5] then st = h[5]
  elseif (tonumber(c[3]) or 0) + (tonumber(c[5]) or 0) > 0 then st = 'f'
  elseif (tonumber(c[4]) or 0) > 0 then st = 'x' end
  redis.call('HSET', key, 'st', st, 't1', NOW)
  redis.call('HDEL', key, 'cur', 'end', 'go', 'stop', 'made')
  redis.call('HINCRBY', R .. ':count', 'run.' .. st, 1)
  redis.call('ZREM', R .. ':act:' .. h[2], run)
  redis.call('ZREM', R .. ':timers', 'deadline|' .. run)
  redis.call('ZREM', R .. ':outbox', 'expand|' .. run, 'cancel|' .. run)
  redis.call('ZADD', R .. ':timers', NOW + tonumber(h[3]), 'forget|' .. run)
  local cbt = R .. ':cbt:' .. h[2]
  if redis.call('HGET', cbt, 'prun') == run then settle_cbt(cbt, h[2], run, st, h[4] or '') end
  if redis.call('ZCARD', R .. ':act:' .. h[2]) == 0 then
    local nextrun = redis.call('ZPOPMIN', R .. ':buf:' .. h[2])
    if nextrun[1] then
      redis.call('ZADD', R .. ':act:' .. h[2], nextrun[2], nextrun[1])
      redis.call('HDEL', runkey(nextrun[1]), 'why')
      redis.call('HSET', runkey(nextrun[1]), 'go', '1')
      redis.call('ZADD', R .. ':outbox', NOW, 'expand|' .. nextrun[1])
      STARTED[#STARTED + 1] = nextrun[1]
    end
  end
  return st
end

-- Lets the job of a step run again, under overlap skip_steps.
local function free_job(run, i)
  local job = redis.call('HGET', runkey(run), 'j' .. i)
  if not job then return end
  local busy = R .. ':busy:' .. redis.call('HGET', runkey(run), 'tg')
  if redis.call('HGET', busy, job) == run .. ':' .. i then redis.call('HDEL', busy, job) end
  redis.call('HDEL', runkey(run), 'j' .. i)
end

-- Ends a step in state letter st. s.t1, s.code and s.txt are the caller's.
local function end_step(run, i, s, st)
  local id = dispatch_id(run, i, s)
  redis.call('ZREM', R .. ':sent', id)
  redis.call('ZREM', R .. ':parked', run .. ':' .. i)
  redis.call('HDEL', R .. ':live', id)
  s.st, s.t1 = st, NOW
  put_step(run, i, s)
  redis.call('HINCRBY', runkey(run), 'c' .. st, 1)
  redis.call('HINCRBY', R .. ':count', 'step.' .. st, 1)
  free_job(run, i)
end

-- Begin and finish do the attempts of one run together. read_rows reads, for ARGV of
-- so many values per attempt, of which the first two are run and step, the rows of
-- the steps and the named fields of the run. It returns the groups by run, and in
-- the order in which the runs come: {run, head = values of the fields, rows = rows by
-- step, writes = what write_rows is to write}.
local function read_rows(width, head)
  local groups, order = {}, {}
  for k = 1, #ARGV, width do
    local g = groups[ARGV[k]]
    if not g then
      g = {run = ARGV[k], fields = {unpack(head)}, steps = {}, rows = {}, writes = {}}
      groups[ARGV[k]], order[#order + 1] = g, g
    end
    g.fields[#g.fields + 1] = 's' .. ARGV[k + 1]
    g.steps[#g.steps + 1] = ARGV[k + 1]
  end
  for _, g in ipairs(order) do
    local got = redis.call('HMGET', runkey(g.run), unpack(g.fields))
    g.head = {unpack(got, 1, #head)}
    for k, i in ipairs(g.steps) do g.rows[i] = got[#head + k] end
  end
  return groups, order
end

local function write_row(g, i, row)
  g.rows[i] = row
  g.writes[#g.writes + 1], g.writes[#g.writes + 2] = 's' .. i, row
end

local function write_rows(run, g)
  if #g.writes > 0 then redis.call('HSET', runkey(run), unpack(g.writes)) end
end

-- What the stretches of a run may take to tell: each Begin reads it. Steps of a run that
-- tells of more get fields.
local TOGETHER_MOST = 2000

-- Makes the steps of a run of n steps from the one numbered from on. ARGV[at] is the
-- number g of stretches of steps that go one way, then g times steps, queue, wait
-- reason, and under overlap skip_steps the job of each step. fields are more fields of
-- the run to write, and values. Returns the numbers of the steps that were skipped; all
-- others with a queue are dispatched with the fence 1 and this random part.
local function expand(run, policy, target, n, from, at, random, fields)
  local rows, sent, parked, skipped = fields, {}, {}, {}
  local r, s, cur, ways = #rows, 0, from, at + 3 * ARGV[at]
  local busy = policy == 'j' and R .. ':busy:' .. target
  local before, after = run .. ':', ':1-' .. random
  local together, left, stretches = '', 0, 0
  if from > 0 then
    local h = redis.call('HMGET', runkey(run), 'together', 'left')
    together, left = h[1] or '', tonumber(h[2] or 0)
  end
  local was = left
  for way = at + 1, ways, 3 do
    local len, q = tonumber(ARGV[way]), ARGV[way + 1]
    if q ~= '' and len > 1 and not busy and #together < TOGETHER_MOST then
      local span = whole(cur) .. '-' .. whole(cur + len)
      together = together .. span .. ':' .. random .. ':' .. q .. '\n'
      left, stretches = left + len, stretches + 1
      sent[s + 1], sent[s + 2], s = NOW_TEXT, before .. span .. after, s + 2
    else
      local row = q ~= '' and 'd|1|' .. random .. '|0|0|0|' .. q .. '||0|0|0|'
        or 'w|1|' .. random .. '|0|0|0|||0|0|0|' .. ARGV[way + 2]
      for k = cur, cur + len - 1 do
        local i = whole(k)
        local job = busy and ARGV[ways + 1 + k - from]
        if busy and redis.call('HEXISTS', busy, job) == 1 then
          local step = new_step()
          step.txt = 'the last job is not completed. skip this job'
          end_step(run, i, step, 'k')
          skipped[#skipped + 1] = k
        else
          if busy then
            redis.call('HSET', busy, job, before .. i)
            rows[r + 1], rows[r + 2], r = 'j' .. i, job, r + 2
          end
          rows[r + 1], rows[r + 2], r = 's' .. i, row, r + 2
          if q ~= '' then
            sent[s + 1], sent[s + 2], s = NOW_TEXT, before .. i .. after, s + 2
          else
            parked[#parked + 1], parked[#parked + 2] = NOW_TEXT, before .. i
          end
        end
      end
    end
    cur = cur + len
  end
  if left > was then
    rows[r + 1], rows[r + 2], rows[r + 3], rows[r + 4], r = 'together', together, 'left', whole(left), r + 4
    redis.call('INCRBY', R .. ':waiting', left - was - stretches)
  end
  rows[r + 1], rows[r + 2] = 'cur', whole(cur)
  redis.call('HSET', runkey(run), unpack(rows))
  if s > 0 then redis.call('ZADD', R .. ':sent', unpack(sent)) end
  if #parked > 0 then redis.call('ZADD', R .. ':parked', unpack(parked)) end
  if cur < n then
    redis.call('ZADD', R .. ':outbox', NOW_TEXT, 'expand|' .. run)
  elseif s + #parked == 0 then
    settle_run(run) -- all may have been skipped, now or before
  end
  return skipped
end

-- Asks a run to stop: what has not begun is canceled at once (at most 500
-- steps a call), what runs is told to. Returns true when all was asked.
local function cancel_run(run, why, endstate, out)
  local key = runkey(run)
  local h = redis.call('HMGET', key, 'st', 'n', 'cur', 'stop', 'tg')
  if not h[1] or h[1] == 's' or h[1] == 'f' or h[1] == 'x' or h[1] == 't' then return true end
  local n, cur, from = tonumber(h[2]), tonumber(h[3] or '0'), tonumber(h[4] or '0')
  if h[1] == 'c' then
    why = redis.call('HGET', key, 'why') -- the first reason stands for all steps
  else
    redis.call('HSET', key, 'st', 'c', 'end', endstate, 'why', why, 'stop', 0)
    redis.call('ZREM', R .. ':outbox', 'expand|' .. run)
    redis.call('ZREM', R .. ':buf:' .. h[5], run)
    if cur < n then
      redis.call('HINCRBY', key, 'cx', n - cur)
      redis.call('HINCRBY', R .. ':count', 'step.x', n - cur)
    end
    redis.call('HSET', key, 'cur', n, 'made', cur)
  end
  local made = tonumber(redis.call('HGET', key, 'made'))
  local to = math.min(made, from + 500)
  for i = from, to - 1 do
    local s = get_step(run, i)
    if s.st == 'w' or s.st == 'd' then
      redis.call('ZREM', R .. ':timers', 'retry|' .. run .. ':' .. i .. ':' .. s.fc)
      s.txt = why
      end_step(run, i, s, 'x')
    elseif s.st == 'r' then
      s.st = 'c'
      put_step(run, i, s)
      local id = dispatch_id(run, i, s)
      redis.call('ZADD', R .. ':outbox', NOW, 'stop|' .. s.w .. '|' .. id)
      out[#out + 1] = s.w
      out[#out + 1] = id
    end
  end
  if to < made then
    redis.call('HSET', key, 'stop', to)
    redis.call('ZADD', R .. ':outbox', NOW, 'cancel|' .. run)
    return false
  end
  redis.call('ZREM', R .. ':outbox', 'cancel|' .. run)
  settle_run(run)
  return true
end
