-- Shares the shards of a role among its members. Each call says that a member is
-- alive, renews what it holds, gives back what is more than its fair share and
-- takes free or expired shards up to that share.
-- KEYS[1] root of the role "takt:{l:<role>}"
-- ARGV 1 member, 2 ms a lease and a silent member last, 0 leaves, 3 number of shards
-- Returns shard, generation, shard, generation, ... for all the member holds now. The
-- generation of a shard grows with each new owner.
local R = KEYS[1]
local T = redis.call('TIME')
local NOW = T[1] * 1000 + math.floor(T[2] / 1000)
local me, ttl, shards = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

if ttl == 0 then
  redis.call('ZREM', R .. ':members', me)
else
  redis.call('ZADD', R .. ':members', NOW, me)
  redis.call('ZREMRANGEBYSCORE', R .. ':members', '-inf', NOW - ttl)
end
local share = ttl == 0 and 0 or math.ceil(shards / redis.call('ZCARD', R .. ':members'))

local mine, free, held = {}, {}, {}
for n = 0, shards - 1 do
  local row = redis.call('HGET', R .. ':shards', n)
  local owner, generation, expires
  if row then owner, generation, expires = string.match(row, '^(.*)|(%d+)|(%d+)$') end
  if owner == me and tonumber(expires) > NOW then
    mine[#mine + 1] = {n, tonumber(generation)}
  elseif not owner or owner == '' or owner == me or tonumber(expires) <= NOW then
    free[#free + 1] = {n, tonumber(generation or '0') + 1}
  end
end
for k, s in ipairs(mine) do
  if k > share then
    redis.call('HSET', R .. ':shards', s[1], '|' .. s[2] .. '|0')
  else
    held[#held + 1] = s
  end
end
for _, s in ipairs(free) do
  if #held < share then held[#held + 1] = s end
end
local out = {}
for _, s in ipairs(held) do
  redis.call('HSET', R .. ':shards', s[1], me .. '|' .. s[2] .. '|' .. (NOW + ttl))
  out[#out + 1] = s[1]
  out[#out + 1] = s[2]
end
return out
