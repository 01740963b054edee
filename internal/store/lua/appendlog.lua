-- Adds a piece to the live log of an attempt. Each piece puts off the log's end of life,
-- so that a log whose worker was killed in the middle is kept as any other.
-- KEYS[1] partition root
-- ARGV 1 the log's name "<run>:<step>:<attempt>", 2 text, 3 '1' when it is the last piece,
--   4 ms until the log is archived, 5 ms until it goes by itself, 6 timer that archives it
-- Returns the piece's position.
local key = R .. ':log:' .. ARGV[1]
local fields = {'t', ARGV[2]}
if ARGV[3] == '1' then fields = {'t', ARGV[2], 'end', '1'} end
local id = redis.call('XADD', key, '*', unpack(fields))
redis.call('PEXPIRE', key, ARGV[5])
redis.call('ZADD', R .. ':timers', NOW + ARGV[4], ARGV[6])
return id
