-- Frees a job from a group's claim, if it is still that group's.
-- KEYS[1] hash of the claims
-- ARGV 1 job, 2 group
-- Returns 1 when it was freed.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
