-- Replaces a field of a hash that still has the value it was read with.
-- KEYS[1] hash
-- ARGV 1 field, 2 value that it must have, 3 new value, '' to remove it
-- Returns 1 when it had.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if ARGV[3] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
