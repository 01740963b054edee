-- Makes the next steps of a run and dispatches them.
-- KEYS[1] partition root
-- ARGV 1 run, 2 index of the first step, 3 random part of fences, 4 number g of
--   stretches of steps that go one way, then g times steps, queue, wait reason, then the
--   job of each step.
-- Returns {word, {numbers of steps that were skipped}, {runs to expand}}; word is ok, or
--   moved when the run is not at that index (somebody else did it) or may not start yet.
local h = redis.call('HMGET', runkey(ARGV[1]), 'st', 'cur', 'go', 'pol', 'tg', 'n')
if (h[1] ~= 'p' and h[1] ~= 'r') or h[2] ~= ARGV[2] or not h[3] then
  if not h[1] or (h[1] ~= 'p' and h[1] ~= 'r') then redis.call('ZREM', R .. ':outbox', 'expand|' .. ARGV[1]) end
  return {'moved', {}, {}}
end
redis.call('ZREM', R .. ':outbox', 'expand|' .. ARGV[1]) -- put in again while steps are left
return {'ok', expand(ARGV[1], h[4], h[5], tonumber(h[6]), tonumber(ARGV[2]), 4, ARGV[3], {}), STARTED}
