package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/takt-dev/takt/internal/schedule"
)

const cronUsage = `usage: takt cron [flags] 'EXPRESSION'
       takt cron [flags] < lines

Shows when a cron expression fires next. Without an expression it answers lines of four
tab-separated columns (expression, zone, from, n); # lines and blank lines are passed over.

  --dialect quartz|unix   language of the expression (default quartz)
  --zone ZONE             IANA time zone (default UTC)
  --from TIME             RFC 3339, fires come strictly after it (default now)
  -n N                    number of fires, 1 to 1000 (default 5)
  --gap POLICY            times the clock jumps over: skip, fire_at_transition or shift
  --overlap POLICY        times the clock shows twice: first, second or both
  --json                  one JSON object per line

Each answer is the four columns, a tab, and the fires; null where there is no further one,
REJECT and the reason where the line is not valid.

example: takt cron --zone Europe/Berlin -n 3 '0 30 2 ? * MON-FRI'
`

// The exit codes of a command.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// fireLayout is RFC 3339 with a numeric offset for UTC too, so that every fire has the same width.
const fireLayout = "2006-01-02T15:04:05-07:00"

// Cron runs "takt cron" and returns its exit code: 0, also when lines from stdin were rejected; 2 when the arguments or the
// expression among them are not valid; 1 when stdin or stdout fails. Answers go to stdout.
func Cron(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	options, err := parseCron(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, cronUsage)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "takt cron: %v\nRun 'takt cron -h' for usage.\n", err)
		return exitUsage
	}
	code := exitOK
	if options.question.Expression == "" {
		err = options.answerLines(ctx, stdin, stdout)
	} else {
		code, err = options.answerArgument(stdout, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "takt cron: %v\n", err)
		return exitError
	}
	return code
}

// cronOptions is the command line. Its question is used where an expression is given, its spec is the ground of every question.
type cronOptions struct {
	question cronQuestion
	spec     schedule.Spec
	json     bool
}

// cronQuestion is the four columns of a line, as given.
type cronQuestion struct {
	Expression string `json:"expression"`
	Zone       string `json:"zone"`
	From       string `json:"from"`
	N          string `json:"-"`
}

// cronAnswer is a line of --json output.
type cronAnswer struct {
	cronQuestion
	Count     int      `json:"n,omitzero"` // N as a number
	Fires     []string `json:"fires"`
	Exhausted bool     `json:"exhausted"` // there will never be another fire
	Reject    string   `json:"reject,omitzero"`
}

func parseCron(args []string) (*cronOptions, error) {
	options := &cronOptions{spec: schedule.Spec{Kind: schedule.Cron}}
	question := &options.question
	flags := flag.NewFlagSet("cron", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar((*string)(&options.spec.Dialect), "dialect", string(schedule.Quartz), "")
	flags.StringVar((*string)(&options.spec.Gap), "gap", "", "")
	flags.StringVar((*string)(&options.spec.Overlap), "overlap", "", "")
	flags.StringVar(&question.Zone, "zone", "UTC", "")
	flags.StringVar(&question.From, "from", time.Now().UTC().Format(time.RFC3339), "")
	flags.StringVar(&question.N, "n", "5", "")
	flags.BoolVar(&options.json, "json", false, "")
	// Flags may also follow the expression, where package flag would stop.
	for rest := args; ; {
		if err := flags.Parse(rest); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return options, checkCron(options.spec)
		}
		if question.Expression != "" {
			return nil, fmt.Errorf("unexpected %q after the expression; put the expression in quotes", flags.Arg(0))
		}
		if question.Expression = flags.Arg(0); strings.TrimSpace(question.Expression) == "" {
			return nil, errors.New("the expression is empty")
		}
		rest = flags.Args()[1:]
	}
}

// checkCron finds wrong flags before they would reject every line: it asks for an expression that is valid in the dialect.
func checkCron(spec schedule.Spec) error {
	spec.Expression = "* * * * *"
	if spec.Dialect == schedule.Quartz {
		spec.Expression = "* * * * * ?"
	}
	_, err := spec.Compile()
	return err
}

// answerArgument answers the expression of the command line.
func (o *cronOptions) answerArgument(out, stderr io.Writer) (int, error) {
	answer := o.answer(o.question)
	err := o.write(out, answer)
	if answer.Reject == "" || err != nil {
		return exitOK, err
	}
	fmt.Fprintf(stderr, "takt cron: %s\nRun 'takt cron -h' for usage.\n", answer.Reject)
	return exitUsage, nil
}

// answerLines answers the lines of stdin until its end, or until ctx is done.
func (o *cronOptions) answerLines(ctx context.Context, stdin io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(stdin)
	for lines.Scan() {
		if err := ctx.Err(); err != nil {
			return err
		}
		line := strings.TrimSuffix(lines.Text(), "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := o.write(out, o.answerLine(line)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read lines: %w", err)
	}
	return nil
}

// answerLine answers one line. Columns after the fourth are passed over, so that a table of expected answers can be fed whole.
func (o *cronOptions) answerLine(line string) cronAnswer {
	columns := strings.Split(line, "\t")
	given := len(columns)
	columns = append(columns, "", "", "")
	question := cronQuestion{columns[0], columns[1], columns[2], columns[3]}
	if given < 4 {
		return question.rejected("the line has %d tab-separated columns; it needs 4: expression, zone, from, n", given)
	}
	return o.answer(question)
}

func (o *cronOptions) answer(question cronQuestion) cronAnswer {
	from, err := time.Parse(time.RFC3339, question.From)
	if err != nil {
		return question.rejected("from field %q: must be RFC 3339, like 2026-01-31T08:00:00Z", question.From)
	}
	n, err := strconv.Atoi(question.N)
	if err != nil {
		return question.rejected("n field %q: must be 1 to %d", question.N, schedule.MaxPreview)
	}
	spec := o.spec
	spec.Expression, spec.Zone = question.Expression, question.Zone
	fires, exhausted, err := schedule.Preview(spec, from, n)
	if err != nil {
		return question.rejected("%v", err)
	}
	answer := cronAnswer{cronQuestion: question, Count: n, Fires: make([]string, 0, len(fires)), Exhausted: exhausted}
	for _, fire := range fires {
		answer.Fires = append(answer.Fires, fire.Format(fireLayout))
	}
	return answer
}

func (q cronQuestion) rejected(format string, args ...any) cronAnswer {
	return cronAnswer{cronQuestion: q, Fires: []string{}, Reject: fmt.Sprintf(format, args...)}
}

func (o *cronOptions) write(out io.Writer, answer cronAnswer) error {
	if o.json {
		return json.NewEncoder(out).Encode(answer)
	}
	_, err := fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", answer.Expression, answer.Zone, answer.From, answer.N, answer.text())
	return err
}

// text is the fifth column.
func (a cronAnswer) text() string {
	if a.Reject != "" {
		return "REJECT " + a.Reject
	}
	words := a.Fires
	if a.Exhausted {
		words = append(words, "null")
	}
	return strings.Join(words, " ")
}
