-- Prelude of the trigger scripts. The keys of a trigger partition are:
--   <root>:trigger      hash, one row per trigger
--   <root>:next         hash trigger -> "<revision>.<ms>", the entry of its next slot
--   <root>:led:<uuid>   zset of a trigger's ledger entries by their first slot
--   <root>:row:<uuid>   hash of these entries
--   <root>:open         hash trigger -> ",<entry>|<published>" for each slot of it, oldest
--                       first, that was published, is not decided and has no row.
--                       A row follows from that; the slots that do not fit have theirs
--   <root>:early        hash trigger -> entry: its next slot, where that was decided
--                       before its publisher advanced. Whatever moves the next slot or
--                       raises the revision takes the note out
--   <root>:day:<uuid>   hash of counters "<UTC day number>.<decision>"
--   <root>:undecided    zset of "<uuid>/<entry>" by the time they came into the ledger, by
--                       Redis' clock: the publisher's may be wrong
--   <root>:edited       zset of triggers by the time in us of their last edit, no two at
--                       the same; the latest 1000
--   <root>:outbox, <root>:timers as in a run partition
-- An entry is revision|manual|from|to|count|published|decided|decision|runs|only|reason,
-- times in ms, runs and only as comma lists.
local LED, ROW = R .. ':led:', R .. ':row:'
local OPEN, EARLY = R .. ':open', R .. ':early'

-- Writes a whole number. Lua's own conversion costs as much as a command.
local function whole(n) return string.format('%d', n) end
local NOW_TEXT = whole(NOW)

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

-- The row of a slot that was published at an instant and not decided.
local function open_row(rev, slot, published)
  return rev .. '|0|' .. slot .. '|' .. slot .. '|1|' .. published .. '|0||||'
end

-- Gives the row that an open slot would have, where it has none. list is the
-- trigger's, or nil to read it.
local function get_open(uuid, id, list)
  list = list or redis.call('HGET', OPEN, uuid)
  local _, from = string.find(list or '', ',' .. id .. '|', 1, true)
  if not from then return nil end
  local rev, slot = string.match(id, '^(%d+)%.(%d+)$')
  return open_row(rev, slot, string.match(list, '^%d+', from + 1))
end

-- Takes an open slot out of the list. Returns whether it was there.
local function take_open(uuid, id)
  local list = redis.call('HGET', OPEN, uuid)
  local from, bar = string.find(list or '', ',' .. id .. '|', 1, true)
  if not from then return false end
  list = string.sub(list, 1, from - 1) .. string.sub(list, string.find(list, ',', bar, true) or #list + 1)
  if list == '' then redis.call('HDEL', OPEN, uuid) else redis.call('HSET', OPEN, uuid, list) end
  return true
end

-- Whether an open slot without a row lies between two instants.
local function open_between(uuid, from, to)
  for slot in string.gmatch(redis.call('HGET', OPEN, uuid) or '', '%.(%d+)|') do
    if tonumber(slot) > tonumber(from) and tonumber(slot) < tonumber(to) then return true end
  end
  return false
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
  if open_between(uuid, p.from, e.from) then return end
  p.to, p.count, p.dec = e.to, tonumber(p.count) + tonumber(e.count), e.dec
  drop_entry(uuid, id)
  save_entry(uuid, prev, p)
end

-- Whether a slot of a trigger's present revision is the next one or still to come:
-- 0 or above; below 0 for all others.
local function ahead(uuid, rev, slot)
  local its, ms = string.match(redis.call('HGET', R .. ':next', uuid) or '', '^(%d+)%.(%d+)$')
  return its == rev and tonumber(slot) - tonumber(ms) or -1
end

-- What note_undecided has noted, score and member in turn.
local undecided = {}

-- Writes what note_undecided has left to write; who calls that, or add_entry, has to
-- call this in the end.
local function settle_entries()
  if #undecided > 0 then redis.call('ZADD', R .. ':undecided', unpack(undecided)) end
  undecided = {}
end

local function note_undecided(uuid, id)
  undecided[#undecided + 1], undecided[#undecided + 2] = NOW_TEXT, uuid .. '/' .. id
  if #undecided >= 1000 then settle_entries() end -- the stack bounds what unpack gives
end

-- Adds an entry with its row. A slot that is covered already (a fire was decided, and
-- perhaps merged, before its publisher advanced) stays as it is.
local function add_entry(uuid, id, from, row)
  local rev, manual, decision = string.match(row, '^(%d+)|(%d)|%d+|%d+|%d+|%d+|%d+|(%a*)|')
  if manual == '0' and covering(uuid, rev, from) then return end
  if redis.call('HSETNX', ROW .. uuid, id, row) == 0 then return end
  redis.call('ZADD', LED .. uuid, from, id)
  if decision == '' then
    note_undecided(uuid, id)
  else
    local e = parse_entry(row)
    count_day(uuid, e.from, e.decision, e.count)
    merge_back(uuid, id, e)
  end
end

-- Adds the entry ARGV[at..at+2]: id, from, row.
local function put_entry(uuid, at) add_entry(uuid, ARGV[at], ARGV[at + 1], ARGV[at + 2]) end
