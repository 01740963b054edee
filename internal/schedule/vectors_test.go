package schedule

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// vector is one row of a testdata table: expression, zone, from (exclusive), n, the next n fires or REJECT.
type vector struct {
	line                   string // file:line
	expression, zone, want string
	from                   time.Time
	n                      int
}

// offsetLayout is RFC 3339 with +00:00 for UTC, as the tables write it.
const offsetLayout = "2006-01-02T15:04:05-07:00"

// readVectors reads a table. A sixth column, the reason of a hand-made row, is passed over.
func readVectors(t testing.TB, file string) []vector {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var rows []vector
	for i, line := range strings.Split(strings.TrimRight(string(data), "\n"), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		where := file + ":" + strconv.Itoa(i+1)
		columns := strings.Split(line, "\t")
		if len(columns) < 5 {
			t.Fatalf("%s: %d columns, want 5 or 6", where, len(columns))
		}
		from, err := time.Parse(time.RFC3339, columns[2])
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		n, err := strconv.Atoi(columns[3])
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		rows = append(rows, vector{where, columns[0], columns[1], columns[4], from, n})
	}
	return rows
}

// answer is what the package says to a row, in the table's own words.
func answer(v vector, dialect Dialect) string {
	fires, exhausted, err := Preview(Spec{Kind: Cron, Dialect: dialect, Expression: v.expression, Zone: v.zone}, v.from, v.n)
	if err != nil {
		return "REJECT"
	}
	var words []string
	for _, fire := range fires {
		words = append(words, fire.Format(offsetLayout))
	}
	if exhausted {
		words = append(words, "null")
	}
	return strings.Join(words, " ")
}

func TestVectors(t *testing.T) {
	tables := []struct {
		file    string
		dialect Dialect
		rows    int // a table that lost rows must not pass
	}{
		{"quartz-hand.tsv", Quartz, 66},
		{"quartz-random.tsv", Quartz, 3000},
		{"quartz-dst.tsv", Quartz, 1500},
		{"unix-hand.tsv", Unix, 120},
	}
	for _, table := range tables {
		t.Run(table.file, func(t *testing.T) {
			rows := readVectors(t, table.file)
			if len(rows) < table.rows {
				t.Errorf("%d rows, want at least %d", len(rows), table.rows)
			}
			for _, v := range rows {
				if got := answer(v, table.dialect); got != v.want {
					t.Errorf("%s: %q in %s after %s\n got %s\nwant %s", v.line, v.expression, v.zone, v.from.Format(time.RFC3339), got, v.want)
				}
			}
		})
	}
}
