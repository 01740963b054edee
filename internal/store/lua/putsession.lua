-- Keeps a session until its life ends, or renews one that is kept.
-- KEYS[1] the session, KEYS[2] its account's index of sessions (zset of hashes by
--   end in ms), KEYS[3] hash account uuid -> JSON
-- ARGV 1 hash of the token, 2 JSON, 3 life in ms, 4 account uuid, 5 how many
--   sessions the account may have, or '' to renew, 6 the hash of the account's
--   password when that was checked (not looked at to renew)
-- Returns 1 when kept, 0 when the account has as many as it may, -1 when its
--   password was changed, or it was disabled, since; and when there is no session
--   to renew.
local T = redis.call('TIME')
local NOW = T[1] * 1000 + math.floor(T[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', NOW)
if ARGV[5] == '' then
  if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
else
  local row = redis.call('HGET', KEYS[3], ARGV[4])
  local account = row and cjson.decode(row)
  if not account or account.disabled or account.password ~= ARGV[6] then return -1 end
  -- One that is kept already is put again because the reply was lost.
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) and not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], NOW + tonumber(ARGV[3]), ARGV[1])
-- The index lives as long as its longest session.
redis.call('PEXPIREAT', KEYS[2], redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2])
return 1
