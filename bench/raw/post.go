package raw

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// Post is the reference of the POST row: a handler that binds the body, writes a run
// with a script of its own, which only counts, and enqueues its jobs with asynq's
// client, all in one pipeline. There is no session, no overlap policy, no decision
// that a repeated request would find, no plan, no index, and no record of what was
// sent: who dies between the two parts of the pipeline loses jobs. Load comes first.
func Post(rdb *redis.Client, jobs, payload int) (h http.Handler, end func() error) {
	gathered := redis.NewClient(rdb.Options())
	gathered.AddHook(gathering{})
	client := asynq.NewClientFromRedisClient(gathered)
	what := make([]byte, payload)
	r := gin.New()
	r.POST("/runs", func(c *gin.Context) {
		var body struct {
			Overlap struct {
				Policy string `json:"policy"`
				Limit  int    `json:"limit"`
			} `json:"overlap"`
		}
		if err := c.ShouldBindJSON(&body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		pipe := rdb.Pipeline()
		ctx := context.WithValue(c.Request.Context(), pipeKey{}, pipe)
		run := uuid.NewString()
		createRun.EvalSha(ctx, pipe, []string{"raw:{r}:run:" + run, "raw:{r}:runs"}, run, jobs, time.Now().UnixMilli())
		for range jobs {
			if _, err := client.EnqueueContext(ctx, asynq.NewTask("noop", what)); err != nil {
				c.Status(http.StatusInternalServerError)
				return
			}
		}
		if _, err := pipe.Exec(ctx); err != nil {
			c.Status(http.StatusInternalServerError)
			return
		}
		c.JSON(http.StatusCreated, gin.H{"uuid": run, "policy": body.Overlap.Policy})
	})
	return r, gathered.Close
}

var createRun = redis.NewScript(`
redis.call('HSET', KEYS[1], 'state', 'pending', 'total', ARGV[2], 'done', '0', 'failed', '0', 'created', ARGV[3])
return redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])`)

// Load loads the reference's script.
func Load(ctx context.Context, rdb redis.UniversalClient) error {
	return createRun.Load(ctx, rdb).Err()
}

// gathering puts asynq's commands into the pipeline that the context has.
type gathering struct{}

type pipeKey struct{}

func (gathering) DialHook(next redis.DialHook) redis.DialHook { return next }

func (gathering) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (gathering) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		pipe, ok := ctx.Value(pipeKey{}).(redis.Pipeliner)
		if !ok {
			return next(ctx, cmd)
		}
		_ = pipe.Process(ctx, redis.NewCmd(ctx, cmd.Args()...))
		if answer, ok := cmd.(*redis.Cmd); ok {
			answer.SetVal(int64(1))
		}
		return nil
	}
}
