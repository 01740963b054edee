-- Deletes a CBT task without a run.
-- KEYS[1] partition root
-- ARGV 1 task, 2 version that it must have
-- Returns 1 when it is gone, 0 when it has another version or a transition is under way.
local h = redis.call('HMGET', R .. ':cbt:' .. ARGV[1], 'v', 'prun', 'only')
if not h[1] then return 1 end
if h[1] ~= ARGV[2] or h[2] and h[3] == '' then return 0 end
drop_cbt(ARGV[1])
return 1
