-- Makes a receipt: one that is held by who makes it, or one that is done.
-- KEYS[1] root "takt:{r:N}". Below it: receipt:<id> (hash), and open, the unfinished
--   ones (zset of ids by the ms from which on anybody may take them)
-- ARGV 1 id, 2 holder, 3 lease ms, 4 fixed part as JSON, 5 ms to keep the answer,
--   6 ms the work may take, 7 what is asked, 8 hook or ''; for one that is done
--   also 9 1 for a success or 0, 10 answer
-- Returns the ms it was made at, or 0 when the id is in use.
local row = R .. ':receipt:' .. ARGV[1]
if redis.call('EXISTS', row) == 1 then
  -- The same maker again: the reply to the first call was lost.
  if redis.call('HGET', row, 'maker') == ARGV[2] then return tonumber(redis.call('HGET', row, 'created')) end
  return 0
end
redis.call('HSET', row, 'fixed', ARGV[4], 'maker', ARGV[2], 'created', NOW)
if ARGV[9] then
  redis.call('HSET', row, 'ended', NOW, 'ok', ARGV[9], 'body', ARGV[10])
  redis.call('PEXPIRE', row, ARGV[5])
  return NOW
end
redis.call('HSET', row, 'holder', ARGV[2], 'asked', ARGV[7])
if ARGV[8] ~= '' then redis.call('HSET', row, 'hook', ARGV[8]) end
redis.call('ZADD', R .. ':open', NOW + ARGV[3], ARGV[1])
redis.call('PEXPIRE', row, ARGV[6] + ARGV[5])
return NOW
