-- Writes a definition row by compare-and-set. A row is "<version>|<JSON>".
-- KEYS[1] hash of the rows, KEYS[2] hash of another noun's, in which the uuid must
--   not be either: jobs and groups share indexes, KEYS[3] counter of edits
-- ARGV 1 uuid, 2 expected version (0: the row must not exist, -1: any), 3 JSON,
--   4 new version
-- Returns 1 when written, 0 when the row has another version, -1 when it does not
--   exist (or, for version 0, when it does).
local row = redis.call('HGET', KEYS[1], ARGV[1])
-- The same write again: the reply to the first was lost on its way.
if row == ARGV[4] .. '|' .. ARGV[3] then return 1 end
if ARGV[2] == '0' then
  if row or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return -1 end
elseif not row then
  return -1
elseif ARGV[2] ~= '-1' and string.match(row, '^(%d+)|') ~= ARGV[2] then
  return 0
end
redis.call('INCR', KEYS[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4] .. '|' .. ARGV[3])
return 1
