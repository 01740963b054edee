-- Prelude of the trigger scripts. The keys of a trigger partition are:
--   <root>:trigger      hash, one row per trigger
--   <root>:next         zset of triggers by their next slot in ms
--   <root>:led:<uuid>   zset of a trigger's ledger entries by their first slot
--   <root>:row:<uuid>   hash of these entries
--   <root>:day:<uuid>   hash of counters "<UTC day number>.<decision>"
--   <root>:undecided    zset of "<uuid>/<entry>" by the time they were published
--   <root>:outbox, <root>:timers as in a run partition
-- An entry is revision|manual|from|to|count|published|decided|decision|runs|only|reason,
-- times in ms, runs and only as comma lists.
local function set_next(uuid, ms)
  if ms == '' then redis.call('ZREM', R .. ':next', uuid)
  else redis.call('ZADD', R .. ':next', ms, uuid) end
end

local function parse_entry(row)
  local e = {}
  e.rev, e.manual, e.from, e.to, e.count, e.pub, e.dec, e.decision, e.runs, e.only, e.reason =
    string.match(row, '^(%d+)|(%d)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%a*)|([^|]*)|([^|]*)|(.*)$')
  return e
end

local function get_entry(uuid, id)
  local row = redis.call('HGET', R .. ':row:' .. uuid, id)
  return row and parse_entry(row)
end

-- The entry of a slot of the schedule that covers an instant, or nil: its own, or
-- one that slots with the same decision were merged into. Fires by hand may lie
-- within such an entry.
local function covering(uuid, rev, ms)
  for from = 0, 900, 100 do
    local ids = redis.call('ZREVRANGEBYSCORE', R .. ':led:' .. uuid, ms, '-inf', 'LIMIT', from, 100)
    for _, id in ipairs(ids) do
      local p = get_entry(uuid, id)
      if p and p.manual == '0' then
        if p.rev == rev and tonumber(p.to) >= tonumber(ms) then return p end
        return nil
      end
    end
    if #ids < 100 then return nil end
  end
  return nil
end

local function save_entry(uuid, id, e)
  redis.call('HSET', R .. ':row:' .. uuid, id, table.concat(
    {e.rev, e.manual, e.from, e.to, e.count, e.pub, e.dec, e.decision, e.runs, e.only, e.reason}, '|'))
end

local function drop_entry(uuid, id)
  redis.call('ZREM', R .. ':led:' .. uuid, id)
  redis.call('HDEL', R .. ':row:' .. uuid, id)
  redis.call('ZREM', R .. ':undecided', uuid .. '/' .. id)
end

local function count_day(uuid, ms, decision, n)
  redis.call('HINCRBY', R .. ':day:' .. uuid, math.floor(ms / 86400000) .. '.' .. decision, n)
end

-- Consecutive entries with the same decision, reason and revision become one.
local function merge_back(uuid, id, e)
  if e.manual == '1' then return end
  if e.decision ~= 'missed' and e.decision ~= 'skipped' and e.decision ~= 'merged' then return end
  local prev = redis.call('ZREVRANGEBYSCORE', R .. ':led:' .. uuid, '(' .. e.from, '-inf', 'LIMIT', 0, 1)[1]
  local p = prev and get_entry(uuid, prev)
  if not p or p.decision ~= e.decision or p.reason ~= e.reason or p.rev ~= e.rev or p.manual ~= e.manual then return end
  p.to, p.count, p.dec = e.to, tonumber(p.count) + tonumber(e.count), e.dec
  drop_entry(uuid, id)
  save_entry(uuid, prev, p)
end

-- Adds the entry ARGV[at..at+2]: id, from, row. A slot that is covered already (a
-- fire was decided, and perhaps merged, before its publisher advanced) stays as it
-- is.
local function put_entry(uuid, at)
  local id, from, row = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local e = parse_entry(row)
  if e.manual == '0' and covering(uuid, e.rev, from) then return end
  if redis.call('HSETNX', R .. ':row:' .. uuid, id, row) == 0 then return end
  redis.call('ZADD', R .. ':led:' .. uuid, from, id)
  if e.decision == '' then
    redis.call('ZADD', R .. ':undecided', e.pub, uuid .. '/' .. id)
  else
    count_day(uuid, e.from, e.decision, e.count)
    merge_back(uuid, id, e)
  end
end
