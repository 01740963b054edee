-- Keeps an API token, and forgets those of its account that have expired.
-- KEYS[1] the token, KEYS[2] its account's index of tokens (hash uuid -> hash)
-- ARGV 1 uuid, 2 hash of the token, 3 JSON, 4 life in ms or '0' for ever, 5 how many
--   tokens the account may have, 6 prefix of the token keys, in the slot of KEYS
-- Returns 1 when kept, 0 when the account has as many as it may.
local index = redis.call('HGETALL', KEYS[2])
for i = 1, #index, 2 do
  if redis.call('EXISTS', ARGV[6] .. index[i + 1]) == 0 then
    redis.call('HDEL', KEYS[2], index[i])
  end
end
-- One that is kept already is put again because the reply was lost.
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[5]) and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[3])
if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
