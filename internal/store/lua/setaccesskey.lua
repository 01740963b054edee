-- Replaces an access key's row by compare-and-set, or deletes the key.
-- KEYS[1] hash uuid -> JSON, KEYS[2] hash id -> uuid, KEYS[3] set of the uuids of
--   its account's keys
-- ARGV 1 uuid, 2 id, 3 JSON as it was read, 4 new JSON, or '' to delete
-- Returns 1 when done, 0 when the row is another by now.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
  return 1
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
