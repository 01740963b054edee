package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/takt-dev/takt/bench/house"
	"github.com/takt-dev/takt/bench/stat"
	"github.com/takt-dev/takt/pkg/executor"
)

// The POST that starts a run of 10 jobs: session looked up, run admitted, ten
// dispatches enqueued, queues rung, answer written. A worker that can execute the
// jobs is announced and beats, but takes nothing: what executing costs is the
// throughput row's. So that the backlog's bound (10,000 a partition) is not met,
// each of the two measurements has a fresh house.
//
// The references are a gin handler that binds the same body and does nothing, and one
// that writes a run which only counts and enqueues its jobs (raw.Post): the least that a
// start of a run can be.

const (
	postRate  = 1000
	postJobs  = 10
	postConns = 32
	postBody  = `{"overlap":{"policy":"allow"}}`
)

func post(ctx context.Context, e env) ([]result, error) {
	gin.SetMode(gin.ReleaseMode)
	var p50, p99, ginP99, rate, rawRate, ginRate, redisCPU, rawRedis, goCPU, rawGo []float64
	var used house.Usage
	for round := range e.rounds {
		g, err := bareGin()
		if err != nil {
			return nil, err
		}
		defer func() { _ = g.Close() }()
		base := "http://" + g.Addr
		bare := postRequest(base, "/runs", "", postBody)
		same := func(int) []byte { return bare }
		count := e.size(4*postRate, 500)
		took, err := openLoop(ctx, base, postRate, count, 64, same)
		if err != nil {
			return nil, fmt.Errorf("bare gin: %w", err)
		}
		ginP99 = append(ginP99, stat.Percentile(stat.Millis(took), 99))
		perSecond, err := closedLoop(ctx, base, 10*count, postConns, same)
		if err != nil {
			return nil, fmt.Errorf("bare gin: %w", err)
		}
		ginRate = append(ginRate, perSecond)

		if took, err = postLatency(ctx, count); err != nil {
			return nil, err
		}
		p50, p99 = append(p50, stat.Percentile(stat.Millis(took), 50)), append(p99, stat.Percentile(stat.Millis(took), 99))
		if perSecond, used, err = rawPost(ctx, 2*count); err != nil {
			return nil, err
		}
		rawRate = append(rawRate, perSecond)
		rawRedis, rawGo = append(rawRedis, micro(used.Redis)/float64(2*count)), append(rawGo, micro(used.Go)/float64(2*count))
		if perSecond, used, err = postThroughput(ctx, e, 2*count, round); err != nil {
			return nil, err
		}
		redisCPU, goCPU = append(redisCPU, micro(used.Redis)/float64(2*count)), append(goCPU, micro(used.Go)/float64(2*count))
		rate = append(rate, perSecond)
		e.tell("at %d/s: p50 %s, p99 %s ms (gin p99 %s); %d connections: %s/s (counts and enqueues %s/s, gin %s/s)", postRate,
			number(p50[len(p50)-1]), number(p99[len(p99)-1]), number(ginP99[len(ginP99)-1]), postConns, number(perSecond), number(rawRate[len(rawRate)-1]), number(ginRate[len(ginRate)-1]))
	}
	return []result{
		{
			Measure: "POST that starts a run of 10 jobs, p99 at 1,000/s", Unit: "ms", Values: p99, Bar: within(5), Aim: within(2.5),
			Notes: []note{{"p50", "ms", p50}, {"bare gin p99", "ms", ginP99}},
		},
		{
			Measure: "the same at 32 connections, requests/s ÷ bare gin", Values: stat.Ratios(rate, ginRate), Bar: atLeast(0.15), Aim: atLeast(0.25),
			Wrong: "a handler that only counts and enqueues does not reach it, see the next row",
			Notes: []note{{"Takt", "requests/s", rate}, {"bare gin", "requests/s", ginRate}, {"a handler that counts and enqueues ÷ bare gin", "", stat.Ratios(rawRate, ginRate)}},
		},
		{
			Measure: "the same ÷ a handler that counts and enqueues", Values: stat.Ratios(rate, rawRate), Bar: atLeast(0.5), Aim: atLeast(1),
			Notes: []note{
				{"that handler, without any promise", "requests/s", rawRate},
				{"Redis CPU per request", "µs", redisCPU}, {"that handler's", "µs", rawRedis},
				{"Go CPU per request (client and api)", "µs", goCPU}, {"that handler's (client and handler)", "µs", rawGo},
			},
			Remarks: commandTable(used, float64(2*e.size(4*postRate, 500)), "request"),
		},
	}, nil
}

func postLatency(ctx context.Context, count int) ([]time.Duration, error) {
	h, request, err := postHouse(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if _, err := openLoop(ctx, h.URL, postRate/4, postRate/4, 64, request); err != nil { // warms up
		return nil, err
	}
	return openLoop(ctx, h.URL, postRate, count, 64, request)
}

func postThroughput(ctx context.Context, e env, count, round int) (float64, house.Usage, error) {
	h, request, err := postHouse(ctx)
	if err != nil {
		return 0, house.Usage{}, err
	}
	defer h.Close()
	if _, err := closedLoop(ctx, h.URL, 10*postConns, postConns, request); err != nil {
		return 0, house.Usage{}, err
	}
	stop, err := e.profiled(round)
	if err != nil {
		return 0, house.Usage{}, err
	}
	defer stop()
	before, err := h.Usage(ctx)
	if err != nil {
		return 0, house.Usage{}, err
	}
	rate, err := closedLoop(ctx, h.URL, count, postConns, request)
	if err != nil {
		return 0, house.Usage{}, err
	}
	after, err := h.Usage(ctx)
	return rate, after.Sub(before), err
}

// postHouse opens a house with a group of 10 jobs in each partition.
func postHouse(ctx context.Context) (*house.House, func(i int) []byte, error) {
	h, err := house.Open(ctx, house.Options{NoWorker: true})
	if err != nil {
		return nil, nil, err
	}
	requests, err := postRequests(ctx, h)
	if err != nil {
		h.Close()
		return nil, nil, err
	}
	return h, func(i int) []byte { return requests[i%len(requests)] }, nil
}

func postRequests(ctx context.Context, h *house.House) ([][]byte, error) {
	if err := h.Ghost(ctx, executor.Spec{Type: "noop"}); err != nil {
		return nil, err
	}
	if err := pause(ctx, time.Second); err != nil { // the api's picture of the fleet is half a second old
		return nil, err
	}
	groups, err := makeGroups(ctx, h, partitions, postJobs)
	if err != nil {
		return nil, err
	}
	token, err := h.SessionToken(ctx)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(groups))
	for i, g := range groups {
		out[i] = postRequest(h.URL, "/api/v1/groups/"+g+"/runs", token, postBody)
	}
	return out, nil
}

// bareGin serves a handler that binds JSON and does nothing.
func bareGin() (*http.Server, error) {
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
		c.JSON(http.StatusCreated, gin.H{"policy": body.Overlap.Policy})
	})
	return serve(r)
}
