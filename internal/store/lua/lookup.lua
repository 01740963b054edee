-- Says what is known of a fire.
-- KEYS[1] trigger partition root
-- ARGV 1 trigger, 2 entry id, 3 revision, 4 slot in ms
-- Returns {word, trigger row or '', entry row or '', now}; word is
--   open: published and not decided, or the next slot to be published (its
--   publisher has not advanced yet); decided; or unknown: no such slot.
local row = redis.call('HGET', R .. ':trigger', ARGV[1])
if not row then return {'unknown', '', '', NOW} end
local entry = redis.call('HGET', ROW .. ARGV[1], ARGV[2])
if entry then
  local decision = string.match(entry, '^%d+|%d|%d+|%d+|%d+|%d+|%d+|(%a*)|')
  return {decision == '' and 'open' or 'decided', row, entry, NOW}
end
entry = get_open(ARGV[1], ARGV[2])
if entry then return {'open', row, entry, NOW} end
-- Skipped and missed slots may lie within an earlier entry.
if covering(ARGV[1], ARGV[3], ARGV[4]) then return {'decided', row, '', NOW} end
if redis.call('HGET', R .. ':next', ARGV[1]) == ARGV[2] then return {'open', row, '', NOW} end
return {'unknown', row, '', NOW}
