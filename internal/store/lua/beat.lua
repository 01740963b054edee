-- Takes a worker's heartbeat.
-- KEYS[1] fleet root "takt:{w}"
-- ARGV 1 worker, 2 announcement JSON or '' when unchanged, 3 load JSON, 4 number k of
--   job types announced, then k times name and spec, then the resources.
-- Returns {word, {dispatch ids to stop}}; word is ok, or unknown: announce again.
if ARGV[2] == '' and redis.call('HEXISTS', R .. ':workers', ARGV[1]) == 0 then return {'unknown', {}} end
redis.call('ZADD', R .. ':beat', NOW, ARGV[1])
redis.call('HSET', R .. ':load', ARGV[1], ARGV[3])
if ARGV[2] ~= '' then
  redis.call('HSET', R .. ':workers', ARGV[1], ARGV[2])
  local k = tonumber(ARGV[4])
  for t = 0, k - 1 do redis.call('HSET', R .. ':types', ARGV[5 + 2 * t], ARGV[6 + 2 * t]) end
  for a = 5 + 2 * k, #ARGV do redis.call('HSET', R .. ':resources', ARGV[a], NOW) end
end
local stops = redis.call('SMEMBERS', R .. ':stop:' .. ARGV[1])
if #stops > 0 then redis.call('DEL', R .. ':stop:' .. ARGV[1]) end
return {'ok', stops}
