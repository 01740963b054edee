-- Reads a page of a trigger's ledger, newest first, with the open slots that have no
-- row in their places.
-- KEYS[1] trigger partition root
-- ARGV 1 trigger, 2 least first slot in ms or '', 3 first slot in ms that is too
--   late or '', 4 entries to pass over, 5 most entries
-- Returns entry ids and rows in turn.
local uuid, from, to = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local low, high = from and ARGV[2] or '-inf', to and '(' .. ARGV[3] or '+inf'
local skip, most = tonumber(ARGV[4]), tonumber(ARGV[5])
local list = redis.call('HGET', OPEN, uuid) or ''
local open = {} -- newest first
for id, slot in string.gmatch(list, ',(%d+%.(%d+))|') do
  local ms = tonumber(slot)
  if ms >= (from or ms) and ms < (to or math.huge) then table.insert(open, 1, {id, slot}) end
end
-- The page has the places [skip, skip + most) of all, and some open slots lie before it.
local places, before = {}, 0
for k, slot in ipairs(open) do
  local place = redis.call('ZCOUNT', LED .. uuid, '(' .. slot[2], high) + k - 1
  if place < skip then before = k else places[place] = slot[1] end
end
local ids = redis.call('ZREVRANGEBYSCORE', LED .. uuid, high, low, 'LIMIT', whole(skip - before), ARGV[5])
local out, read = {}, 0
for place = skip, skip + most - 1 do
  local id = places[place]
  if not id then
    read = read + 1
    id = ids[read]
  end
  if not id then break end
  out[#out + 1] = id
  out[#out + 1] = places[place] and get_open(uuid, id, list) or redis.call('HGET', ROW .. uuid, id)
end
return out
