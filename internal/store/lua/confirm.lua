-- Takes an effect out of an outbox, unless it was put in again meanwhile.
-- KEYS[1] outbox
-- ARGV 1 effect, 2 when it had been put in, in ms
-- Returns 1 when it was taken out.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
