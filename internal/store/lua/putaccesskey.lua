-- Adds an access key under its uuid and its id.
-- KEYS[1] hash uuid -> JSON, KEYS[2] hash id -> uuid, KEYS[3] set of the uuids of
--   its account's keys
-- ARGV 1 uuid, 2 id, 3 JSON, 4 how many keys the account may have
-- Returns 1 when added, 0 when the account has as many as it may, -1 when the uuid
--   is taken, -2 when the id is. Called again because its reply was lost it
--   returns 1 again.
local row = redis.call('HGET', KEYS[1], ARGV[1])
if row then return row == ARGV[3] and 1 or -1 end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return -2 end
if redis.call('SCARD', KEYS[3]) >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return 1
