-- Raises the number of the format that what stands here is written in, and never lowers it.
-- KEYS[1] "takt:{w}:format"
-- ARGV 1 format that the caller writes
-- Returns the format that stands afterwards; it is higher than the caller's where a newer
-- version has written here.
local stands = tonumber(redis.call('GET', KEYS[1]) or 0) or 0
if stands >= tonumber(ARGV[1]) then return stands end
redis.call('SET', KEYS[1], ARGV[1])
return tonumber(ARGV[1])
