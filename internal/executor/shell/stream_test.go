package shell

import (
	"slices"
	"strings"
	"testing"
)

// writes records each write to a log.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

func TestStreamLogsWholeLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	tests := []struct {
		name string
		in   []string
		want []string
	}{
		{"nothing", nil, nil},
		{"a line", []string{"one\n"}, []string{"one\n"}},
		{"a line in parts", []string{"o", "n", "e\n"}, []string{"one\n"}},
		{"lines at once", []string{"one\ntwo\nth", "ree\n"}, []string{"one\ntwo\n", "three\n"}},
		{"no end", []string{"one\ntwo"}, []string{"one\n", "two\n"}},
		{"empty lines", []string{"\n\n"}, []string{"\n\n"}},
		{"line too long", []string{long + "yz", "z\n"}, []string{long + "yz\n", "z\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got writes
			s := newStream(&got, 100)
			for _, p := range tt.in {
				if n, err := s.Write([]byte(p)); n != len(p) || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
			}
			s.close()
			if !slices.Equal(got, tt.want) {
				t.Errorf("log %.60q, want %.60q", got, tt.want)
			}
		})
	}
}

func TestStreamKeepsTheEnd(t *testing.T) {
	const text = "abcdefghijklmnopqrstuvwxyz"
	for max := range len(text) + 2 {
		for step := 1; step <= len(text); step++ {
			s := newStream(new(writes), max)
			for part := range slices.Chunk([]byte(text), step) {
				_, _ = s.Write(part)
			}
			want := text[len(text)-min(max, len(text)):]
			if got := string(s.tail()); got != want || s.cut != (max < len(text)) {
				t.Errorf("max %d, written %d at a time: tail %q, cut %v, want %q", max, step, got, s.cut, want)
			}
		}
	}
}
