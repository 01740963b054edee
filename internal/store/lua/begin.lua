-- Begins attempts.
-- KEYS[1] partition root
-- ARGV per attempt 7 values: run, step, fence, worker, grace in ms added to the
--   deadline, then hash of the plan and the step's timeout in ms if the caller knows
--   them, else '' and ''
-- Returns per attempt 'stale' when this dispatch is not the step's latest, or the step
--   is not waiting for it; else 'attempt number|counted failures|now', or where the
--   caller did not know the plan {that, plan hash, plan step JSON}. Called again by the
--   same worker it returns the same, since the reply to the first call may have been
--   lost.
local begun, live = {}, {}

local function begin(g, run, i, fence, worker, grace, known, timeout)
  local row, random = g.rows[i], nil
  local st, fc, fr, n, bad, rest, w, t0, tail
  if row then
    st, fc, fr, n, bad, rest, w, t0, tail =
      string.match(row, '^(%a)|(%d+)|(%x*)|(%d+)|(%d+)|(%d+|[^|]*)|([^|]*)|(%d+)|%d+|(.*)$')
  else
    random, rest = stretch_of(g.head[3], i)
    if not random then return 'stale' end
    st, fc, fr, n, bad, rest, tail = 'd', '1', random, 0, '0', '0|' .. rest, '0|'
  end
  if not st or fc .. '-' .. fr ~= fence then return 'stale' end
  if st ~= 'd' and not (st == 'r' and w == worker) then return 'stale' end
  local plan, step = g.plan, nil
  if known ~= plan then
    timeout, step = string.match(redis.call('HGET', R .. ':plan:' .. plan, i), '^(%d+)|(.*)$')
  end
  if st == 'd' then
    n, t0 = whole(n + 1), NOW_TEXT
    write_row(g, i, 'r|' .. fc .. '|' .. fr .. '|' .. n .. '|' .. bad .. '|' .. rest .. '|' .. worker .. '|' .. t0 .. '|0|' .. tail)
  end
  local id = run .. ':' .. i .. ':' .. fence
  if random then g.left = (g.left or 0) + 1 else begun[#begun + 1] = id end
  live[#live + 1], live[#live + 2] = id, worker .. '|' .. whole(t0 + timeout + grace)
  local told = n .. '|' .. bad .. '|' .. NOW_TEXT
  if step then return {told, plan, step} end
  return told
end

local groups, order = read_rows(7, {'pl', 'st', 'together'})
for _, g in ipairs(order) do g.plan = g.head[1] end
local out = {}
for k = 1, #ARGV, 7 do
  out[#out + 1] = begin(groups[ARGV[k]], ARGV[k], ARGV[k + 1], ARGV[k + 2], ARGV[k + 3], ARGV[k + 4], ARGV[k + 5], ARGV[k + 6])
end
for run, g in pairs(groups) do
  if #g.writes > 0 and g.head[2] == 'p' then
    local w = g.writes
    w[#w + 1], w[#w + 2], w[#w + 3], w[#w + 4] = 'st', 'r', 't0', NOW_TEXT
  end
  write_rows(run, g)
  if g.left then leave_stretches(run, g.left) end
end
if #begun > 0 then redis.call('ZREM', R .. ':sent', unpack(begun)) end
if #live > 0 then redis.call('HSET', R .. ':live', unpack(live)) end
return out
