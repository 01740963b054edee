-- Adds an account under its uuid and its name.
-- KEYS[1] hash uuid -> JSON, KEYS[2] hash lower-case name -> uuid
-- ARGV 1 uuid, 2 lower-case name, 3 JSON
-- Returns 1 when added, 0 when the name is taken, -1 when the uuid is. Called again
--   because its reply was lost it returns 1 again.
local row = redis.call('HGET', KEYS[1], ARGV[1])
if row then return row == ARGV[3] and 1 or -1 end
if redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
