-- Replaces an account's row by compare-and-set, and may end its sessions in the
-- same step: a crash between the two would leave them to whoever made the
-- account change its password.
-- KEYS[1] hash uuid -> JSON, KEYS[2] the account's index of sessions (zset of hashes)
-- ARGV 1 uuid, 2 JSON as it was read, 3 new JSON, 4 prefix of the session keys, in
--   the hash slot of KEYS, or '' to leave the sessions
-- Returns 1 when replaced, 0 when the row is another by now.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] ~= '' then
  for _, hash in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    redis.call('DEL', ARGV[4] .. hash)
  end
  redis.call('DEL', KEYS[2])
end
return 1
