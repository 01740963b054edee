-- Prelude of the scripts that need no run: KEYS[1] is the root that all keys of
-- the script begin with.
local R = KEYS[1]
local T = redis.call('TIME')
local NOW = T[1] * 1000 + math.floor(T[2] / 1000)
