package redisconn

import "github.com/redis/go-redis/v9"

// Three scripts of asynq v0.26 (internal/rdb/rdb.go) run for every task. Each does
// one task a call, and the call costs more than what is done in it; the scripts
// below do the same for several tasks at once. asynq's own are recognised by their
// SHA-1: with any other version of asynq they run as they are.
const (
	asynqEnqueue = "98d28b42650870a743450ffda9791e9e19c6991b" // enqueueCmd
	asynqDequeue = "a8153319360adc71cdc370107f8ab9786f204765" // dequeueCmd
	asynqDone    = "1241eaa1c73409baaf1fea0c08d203a4911bda15" // doneCmd
)

// isScript reports whether cmd runs the script of this SHA-1.
func isScript(cmd redis.Cmder, sha string) bool {
	return cmd.Name() == "evalsha" && len(cmd.Args()) > 3 && cmd.Args()[1] == sha
}

// enqueueScript does what asynq's enqueue does. It can be folded.
//
//	KEYS 1 pending list of a queue
//	ARGV per task: its id, its message, now in Unix nanoseconds
//
// It returns per task 1, or 0 when the task exists already. All are looked for at once,
// since hardly ever one does. The list is written first: where it cannot be, no hash may
// be left that would make the next try believe that the task is in it.
var enqueueScript = redis.NewScript(`
local prefix = string.sub(KEYS[1], 1, -8) .. 't:'
local keys, out, new, ids, n = {}, {}, {}, {}, 0
for k = 1, #ARGV, 3 do
  n = n + 1
  keys[n] = prefix .. ARGV[k]
end
local look = redis.call('EXISTS', unpack(keys)) > 0
for i = 1, n do
  local key = keys[i]
  if new[key] or look and redis.call('EXISTS', key) == 1 then
    out[i] = 0
  else
    out[i] = 1
    new[key], ids[#ids + 1] = i, ARGV[3 * i - 2]
  end
end
if #ids > 0 then redis.call('LPUSH', KEYS[1], unpack(ids)) end
for key, i in pairs(new) do
  redis.call('HSET', key, 'msg', ARGV[3 * i - 1], 'state', 'pending', 'pending_since', ARGV[3 * i])
end
return out`)

// doneScript does what asynq's done does. It can be folded.
//
//	KEYS 1 active, 2 lease, 3 processed on this day, 4 processed, all of one queue
//	ARGV per task: its key, its id, end of the day's counter in Unix seconds,
//	     greatest value of the counter
//
// It returns per task 1, or 0 when it is not active. Unlike asynq it looks for the id
// in the active list from its young end, and no further than the id: the old end is
// where long tasks gather. A task without lease or hash is done all the same.
var doneScript = redis.NewScript(`
local out, keys, ids = {}, {}, {}
for k = 1, #ARGV, 4 do
  local n = redis.call('LREM', KEYS[1], 1, ARGV[k + 1])
  out[#out + 1] = n
  if n == 1 then keys[#keys + 1], ids[#ids + 1] = ARGV[k], ARGV[k + 1] end
end
local n = #ids
if n > 0 then
  redis.call('ZREM', KEYS[2], unpack(ids))
  redis.call('DEL', unpack(keys))
  if redis.call('INCRBY', KEYS[3], n) == n then redis.call('EXPIREAT', KEYS[3], ARGV[3]) end
  if redis.call('GET', KEYS[4]) == ARGV[4] then redis.call('SET', KEYS[4], n) else redis.call('INCRBY', KEYS[4], n) end
end
return out`)

// takeScript does what asynq's dequeue does, for up to ARGV[3] tasks: from the
// pending list to the active one, with a lease.
//
//	KEYS 1 pending, 2 paused, 3 active, 4 lease, all of one queue
//	ARGV 1 end of the lease in Unix seconds, 2 prefix of task keys, 3 most tasks
//
// It returns id and message of each, in turn. A task whose hash was lost is
// dropped (asynq would keep its id in the active list for ever); whoever sent it
// finds it missing and sends anew.
var takeScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[2]) == 1 then return {} end
local ids = redis.call('RPOP', KEYS[1], ARGV[3])
if not ids then return {} end
local out, active, leases = {}, {}, {}
for _, id in ipairs(ids) do
  local key = ARGV[2] .. id
  local msg = redis.call('HGET', key, 'msg')
  if msg then
    redis.call('HSET', key, 'state', 'active')
    redis.call('HDEL', key, 'pending_since')
    out[#out + 1], out[#out + 2] = id, msg
    active[#active + 1] = id
    leases[#leases + 1], leases[#leases + 2] = ARGV[1], id
  end
end
if #active > 0 then
  redis.call('LPUSH', KEYS[3], unpack(active))
  redis.call('ZADD', KEYS[4], unpack(leases))
end
return out`)

// giveBackScript undoes takeScript for the tasks of ARGV from the second on: they
// are the next to be taken again. KEYS are those of takeScript, ARGV[1] is the
// prefix of task keys. Tasks that are no longer active are left alone. It returns
// how many went back.
var giveBackScript = redis.NewScript(`
local n = 0
for k = 2, #ARGV do
  if redis.call('LREM', KEYS[3], 1, ARGV[k]) == 1 then
    redis.call('ZREM', KEYS[4], ARGV[k])
    redis.call('HSET', ARGV[1] .. ARGV[k], 'state', 'pending')
    redis.call('RPUSH', KEYS[1], ARGV[k])
    n = n + 1
  end
end
return n`)
