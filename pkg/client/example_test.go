package client_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/takt-dev/takt/pkg/client"
)

// Create a job, run it, show its log while it runs, and say how it ended.
func Example() {
	ctx := context.Background()
	c, err := client.New("http://localhost:8080", client.Options{Token: os.Getenv("TAKT_TOKEN")})
	if err != nil {
		log.Fatal(err)
	}
	job, err := c.CreateJob(ctx, client.NewJob{
		Type: "httpRequest",
		JobFields: client.JobFields{
			Name:       "health",
			Parameters: map[string]string{"url": "https://example.com/health"},
			Retry:      client.Retry{Attempts: 3},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	run, err := c.RunJob(ctx, job.UUID, client.RunOptions{Key: "deploy-42"})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.FollowLog(ctx, client.LogOf{Run: run.ID}, os.Stdout); err != nil {
		log.Fatal(err)
	}
	done, err := c.WaitRun(ctx, run.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(done.State)
}
