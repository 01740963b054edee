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
  local row = g.rows[i]
  if not row then return 'stale' end
  local st, fc, fr, n, bad, rest, w, t0, tail =
    string.match(row, '^(%a)|(%d+)|(%x*)|(%d+)|(%d+)|(%d+|[^|]*)|([^|]*)|(%d+)|%d+|(.*)$')
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
  begun[#begun + 1] = id
  live[#live + 1], live[#live + 2] = id, worker .. '|' .. whole(t0 + timeout + grace)
  local told = n .. '|' .. bad .. '|' .. NOW_TEXT
  if step then return {told, plan, step} end
  return told
end

local groups, order = read_rows(7, {'pl', 'st'})
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
end
if #begun > 0 then
  redis.call('ZREM', R .. ':sent', unpack(begun))
  redis.call('HSET', R .. ':live', unpack(live))
end
return out
