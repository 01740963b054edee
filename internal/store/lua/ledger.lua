-- Prelude of the trigger scripts. The keys of a trigger partition are:
--   <root>:trigger      hash, one row per trigger
--   <root>:next         zset of triggers by their next slot in ms
--   <root>:led:<uuid>   zset of a trigger's ledger entries by their first slot
--   <root>:row:<uuid>   hash of these entries
--   <root>:day:<uuid>   hash of counters "<UTC day number>.<decision>"
--   <root>:undecided    zset of "<uuid>/<entry>" by the time they came into the ledger, by
--                       Redis' clock: the publisher's may be wrong
--   <root>:edited       zset of triggers by the time in us of their last edit, no two at
--                       the same; the latest 1000
--   <root>:outbox, <root>:timers as in a run partition
-- An entry is revision|manual|from|to|count|published|decided|decision|runs|only|reason,
-- times in ms, runs and only as comma lists.
local LED, ROW = R .. ':led:', R .. ':row:'

local function set_next(uuid, ms)
  if ms == '' then redis.call('ZREM', R .. ':next', uuid)
  else redis.call('ZADD', R .. ':next', ms, uuid) end
end

-- Notes that a trigger was edited, for a process that misses the doorbell. Scores only
-- rise, so that a reader has seen all up to the highest it was given.
local function note_edit(uuid)
  local key = R .. ':edited'
  local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2] or 0
  redis.call('ZADD', key, string.format('%d', math.max(T[1] * 1000000 + T[2], last + 1)), uuid)
  redis.call('ZREMRANGEBYRANK', key, 0, -1001)
end

local function parse_entry(row)
  local e = {}
  e.rev, e.manual, e.from, e.to, e.count, e.pub, e.dec, e.decision, e.runs, e.only, e.reason =
    string.match(row, '^(%d+)|(%d)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%a*)|([^|]*)|([^|]*)|(.*)$')
  return e
end

local function get_entry(uuid, id)
  local row = redis.call('HGET', ROW .. uuid, id)
  return row and parse_entry(row)
end

-- Whether an entry of the schedule covers an instant: the slot's own, or one that slots
-- with the same decision were merged into. Fires by hand may lie within such an entry.
local function covering(uuid, rev, ms)
  local led, rows = LED .. uuid, ROW .. uuid
  local from, most = '0', '1' -- the latest entry is nearly always one of the schedule
  repeat
    local ids = redis.call('ZREVRANGEBYSCORE', led, ms, '-inf', 'LIMIT', from, most)
    for _, id in ipairs(ids) do
      local its, manual, to = string.match(redis.call('HGET', rows, id) or '', '^(%d+)|(%d)|%d+|(%d+)|')
      if manual == '0' then return its == rev and tonumber(to) >= tonumber(ms) end
    end
    local all = #ids < tonumber(most)
    from, most = from + #ids, '100'
  until all or from > 900
  return false
end

local function save_entry(uuid, id, e)
  redis.call('HSET', ROW .. uuid, id, table.concat(
    {e.rev, e.manual, e.from, e.to, e.count, e.pub, e.dec, e.decision, e.runs, e.only, e.reason}, '|'))
end

local function drop_entry(uuid, id)
  redis.call('ZREM', LED .. uuid, id)
  redis.call('HDEL', ROW .. uuid, id)
  redis.call('ZREM', R .. ':undecided', uuid .. '/' .. id)
end

local function count_day(uuid, ms, decision, n)
  redis.call('HINCRBY', R .. ':day:' .. uuid, math.floor(ms / 86400000) .. '.' .. decision, n)
end

-- Consecutive entries with the same decision, reason and revision become one.
local function merge_back(uuid, id, e)
  if e.manual == '1' then return end
  if e.decision ~= 'missed' and e.decision ~= 'skipped' and e.decision ~= 'merged' then return end
  local prev = redis.call('ZREVRANGEBYSCORE', LED .. uuid, '(' .. e.from, '-inf', 'LIMIT', 0, 1)[1]
  local p = prev and get_entry(uuid, prev)
  if not p or p.decision ~= e.decision or p.reason ~= e.reason or p.rev ~= e.rev or p.manual ~= e.manual then return end
  p.to, p.count, p.dec = e.to, tonumber(p.count) + tonumber(e.count), e.dec
  drop_entry(uuid, id)
  save_entry(uuid, prev, p)
end

-- What put_entry has added to the undecided ones, score and member in turn.
local undecided = {}

-- Writes what put_entry has left to write; every caller of it has to.
local function settle_entries()
  if #undecided > 0 then redis.call('ZADD', R .. ':undecided', unpack(undecided)) end
  undecided = {}
end

-- Adds the entry ARGV[at..at+2]: id, from, row. A slot that is covered already (a
-- fire was decided, and perhaps merged, before its publisher advanced) stays as it
-- is.
local function put_entry(uuid, at)
  local id, from, row = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local rev, manual, decision = string.match(row, '^(%d+)|(%d)|%d+|%d+|%d+|%d+|%d+|(%a*)|')
  if manual == '0' and covering(uuid, rev, from) then return end
  if redis.call('HSETNX', ROW .. uuid, id, row) == 0 then return end
  redis.call('ZADD', LED .. uuid, from, id)
  if decision == '' then
    undecided[#undecided + 1], undecided[#undecided + 2] = string.format('%d', NOW), uuid .. '/' .. id
    if #undecided >= 1000 then settle_entries() end -- the stack bounds what unpack gives
  else
    local e = parse_entry(row)
    count_day(uuid, e.from, e.decision, e.count)
    merge_back(uuid, id, e)
  end
end
