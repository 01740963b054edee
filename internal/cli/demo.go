package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/takt-dev/takt/pkg/client"
)

// demoTime bounds the demo; it takes about three seconds.
const demoTime = time.Minute

// demoSlots is how many slots of its trigger the demo waits for.
const demoSlots = 2

// Demo starts dev in a temporary folder, makes a group of commands and a trigger
// through REST, lets it fire, prints the history and stops everything. args are
// flags of dev, such as --dev-memory.
func Demo(ctx context.Context, args, environ []string, s Streams) error {
	if slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "--help" }) {
		fmt.Fprintln(s.Out, "Usage: takt demo [flags of takt dev]\n\nStarts takt dev in a temporary folder, runs a real group through REST and prints its history.")
		return nil
	}
	dir, err := os.MkdirTemp("", "takt-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()

	houses := make(chan House, 1)
	ended := make(chan error, 1)
	args = append([]string{"--dev-dir", dir, "--api-listen", "127.0.0.1:0", "--log-level", "warn"}, args...)
	go func() { ended <- Dev(ctx, args, environ, s, func(h House) { houses <- h }) }()
	select {
	case err := <-ended:
		return errors.Join(errors.New("takt dev did not start"), err)
	case h := <-houses:
		err = play(ctx, h, s.Out)
	}
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("the demo was not done after %s: %w", demoTime, err)
	}
	cancel()
	return errors.Join(err, <-ended)
}

// play is what a user would do first.
func play(ctx context.Context, h House, w io.Writer) error {
	fmt.Fprintf(w, "takt dev is ready at %s after %s\n\n", h.URL, h.Took.Round(time.Millisecond))
	c, err := client.New(h.URL, client.Options{})
	if err != nil {
		return err
	}
	if err := c.SignIn(ctx, h.Admin, h.Password); err != nil {
		return err
	}
	group, err := demoGroup(ctx, c, h)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "made group %s of three shellCommand jobs\n", group.UUID)
	trigger, err := c.CreateTrigger(ctx, client.NewTrigger{TriggerFields: client.TriggerFields{
		Name: "each second", Schedule: client.Schedule{Kind: "cron", Dialect: "quartz", Expression: "* * * * * ?"},
	}})
	if err != nil {
		return err
	}
	if _, err := c.Bind(ctx, trigger.UUID, client.NewBinding{Kind: "group", UUID: group.UUID}); err != nil {
		return err
	}
	fmt.Fprintf(w, "made trigger %s, %q, and bound the group to it\n", trigger.UUID, "* * * * * ?")
	byHand, err := c.RunGroup(ctx, group.UUID, client.RunOptions{})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "started run %s by hand\n", byHand.ID)
	if err := awaitSlots(ctx, c, trigger.UUID); err != nil {
		return err
	}
	off := false
	if _, err := c.PatchTrigger(ctx, trigger.UUID, 0, map[string]*bool{"enabled": &off}); err != nil {
		return err
	}
	if err := callTarget(ctx, c, h, w); err != nil {
		return err
	}
	return printHistory(ctx, c, group.UUID, trigger.UUID, w)
}

func demoGroup(ctx context.Context, c *client.Client, h House) (client.Group, error) {
	group, err := c.CreateGroup(ctx, client.NewGroup{Type: "shellCommand", GroupFields: client.GroupFields{Name: "greetings"}})
	if err != nil {
		return group, err
	}
	var jobs []string
	for _, name := range []string{"Ada", "Grace", "Barbara"} {
		argv, err := json.Marshal([]string{h.Command, "hello", name})
		if err != nil {
			return group, err
		}
		job, err := c.CreateJob(ctx, client.NewJob{Type: "shellCommand", JobFields: client.JobFields{
			Name: "greet " + name, Parameters: map[string]string{"argv": string(argv)},
		}})
		if err != nil {
			return group, err
		}
		jobs = append(jobs, job.UUID)
	}
	return c.AddJobs(ctx, group.UUID, jobs...)
}

// awaitSlots waits until the trigger's ledger has decided some slots.
func awaitSlots(ctx context.Context, c *client.Client, trigger string) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ledger, err := c.Ledger(ctx, trigger, client.LedgerPage{})
		if err != nil {
			return err
		}
		decided := 0
		for _, e := range ledger.Entries {
			if e.Decision != "" {
				decided++
			}
		}
		if decided >= demoSlots {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// callTarget runs one httpRequest job against dev's own address.
func callTarget(ctx context.Context, c *client.Client, h House, w io.Writer) error {
	job, err := c.CreateJob(ctx, client.NewJob{Type: "httpRequest", JobFields: client.JobFields{
		Name: "call", Parameters: map[string]string{"url": h.Target},
	}})
	if err != nil {
		return err
	}
	run, err := c.RunJob(ctx, job.UUID, client.RunOptions{})
	if err != nil {
		return err
	}
	done, err := c.WaitRun(ctx, run.ID)
	if err != nil {
		return err
	}
	if done.State != "succeeded" {
		return fmt.Errorf("the httpRequest job ended as %s: %s", done.State, done.Steps[0].Reason)
	}
	fmt.Fprintf(w, "an httpRequest job called %s: %s\n", h.Target, done.Steps[0].Attempts[0].Output)
	return nil
}

func printHistory(ctx context.Context, c *client.Client, group, trigger string, w io.Writer) error {
	fmt.Fprintf(w, "\nHistory of the group, newest first:\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  RUN\tSTARTED BY\tSTATE\tSTEP\tTOOK\tWORKER\tOUTPUT")
	runs := 0
	for run, err := range c.Runs(ctx, client.RunFilter{Group: group}) {
		if err != nil {
			return err
		}
		d, err := c.WaitRun(ctx, run.ID)
		if err != nil {
			return err
		}
		if d.State != "succeeded" {
			return fmt.Errorf("run %s ended as %s: %s", d.ID, d.State, d.Reason)
		}
		by := "hand"
		if d.Trigger != "" {
			by = "slot " + d.Slot.Format(time.TimeOnly)
		}
		for _, s := range d.Steps {
			last := s.Attempts[len(s.Attempts)-1]
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.ID[:13], by, s.State, s.Name, last.Ended.Sub(last.Started), s.Worker, stdout(last.Output))
		}
		runs++
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if runs < demoSlots+1 {
		return fmt.Errorf("the group has %d runs, at least %d were to be", runs, demoSlots+1)
	}
	ledger, err := c.Ledger(ctx, trigger, client.LedgerPage{})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nLedger of the trigger:\n\n")
	for _, e := range ledger.Entries {
		fmt.Fprintf(w, "  slot %s  %s  %s late  run %s\n", e.From.Format(time.RFC3339), e.Decision, time.Duration(e.Lateness), strings.Join(e.Runs, ", "))
	}
	return nil
}

// stdout gives what a command wrote, in one line.
func stdout(output string) string {
	var o struct {
		Stdout string `json:"stdout"`
	}
	if json.Unmarshal([]byte(output), &o) != nil {
		return output
	}
	return strings.TrimSpace(o.Stdout)
}
