package worker

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func newTestLog(s *fakeStore) *attemptLog {
	return newLog(s, slog.New(slog.NewTextHandler(io.Discard, nil)), dispatch(0), 1)
}

// kept is what a reader finds: the pieces that were not cut.
func (s *fakeStore) kept() (texts []string, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pieces {
		if !s.cut[p.id] {
			texts = append(texts, p.text)
		}
		end = end || p.end
	}
	return texts, end
}

func TestLogIsWrittenAsItComes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fakeStore{}
		l := newTestLog(s)
		io.WriteString(l, "one\n")
		io.WriteString(l, "two\n")
		pass(logPace + time.Millisecond)
		if texts, end := s.kept(); len(texts) != 1 || texts[0] != "one\ntwo\n" || end {
			t.Errorf("stored %q, end %v; want one piece and no end", texts, end)
		}
		io.WriteString(l, "three\n")
		l.Close()
		texts, end := s.kept()
		if strings.Join(texts, "") != "one\ntwo\nthree\n" || !end {
			t.Errorf("stored %q, end %v; want all of it and the end", texts, end)
		}
		if n, err := io.WriteString(l, "late"); n != 4 || err != nil {
			t.Errorf("a write after the end gives %d, %v", n, err)
		}
	})
}

func TestAttemptWithoutOutputHasNoLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fakeStore{}
		newTestLog(s).Close()
		if s.attempts != 0 {
			t.Errorf("%d pieces were written, want none", s.attempts)
		}
	})
}

// A piece does not wait for the pace when there is much.
func TestFullPieceGoesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fakeStore{}
		l := newTestLog(s)
		began := time.Now()
		io.WriteString(l, strings.Repeat("x", logPiece))
		synctest.Wait()
		if texts, _ := s.kept(); len(texts) != 1 || time.Since(began) != 0 {
			t.Errorf("%d pieces after %s, want one at once", len(texts), time.Since(began))
		}
		l.Close()
	})
}

func TestLogKeepsHeadAndTail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fakeStore{}
		l := newTestLog(s)
		var whole strings.Builder
		for n := range 1000 {
			line := strings.Repeat(string(rune('a'+n%26)), 1023) + "\n"
			whole.WriteString(line)
			io.WriteString(l, line)
			if n%8 == 7 {
				synctest.Wait()
			}
		}
		l.Close()
		texts, end := s.kept()
		got := strings.Join(texts, "")
		if !end {
			t.Error("the end is not marked")
		}
		if len(got) < logHead+logTail-logPiece || len(got) > logHead+logTail+logPiece {
			t.Errorf("%d bytes are kept, want about %d", len(got), logHead+logTail)
		}
		if head := whole.String()[:logHead]; !strings.HasPrefix(got, head) {
			t.Error("the head is not whole")
		}
		if tail := whole.String()[whole.Len()-logTail+logPiece:]; !strings.HasSuffix(got, tail) {
			t.Error("the tail is not whole")
		}
		for _, text := range texts {
			if len(text) > logPiece {
				t.Errorf("a piece has %d bytes, want at most %d", len(text), logPiece)
			}
		}
	})
}

// Readers get pieces one by one, so no character may lie in two of them.
func TestLogDoesNotTearCharacters(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("备份任务已完成 ✓ 🎉\n", 3000)
	for name, write := range map[string]func(l *attemptLog){
		"in one write":             func(l *attemptLog) { io.WriteString(l, text) },
		"byte by byte, paced":      func(l *attemptLog) { slowly(l, text[:500], 1) },
		"in odd chunks":            func(l *attemptLog) { slowly(l, text[:20_000], 7) },
		"in chunks of about 8 KiB": func(l *attemptLog) { slowly(l, text[:60_000], 8191) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := &fakeStore{}
				l := newTestLog(s)
				write(l)
				l.Close()
				texts, _ := s.kept()
				for _, piece := range texts {
					if !utf8.ValidString(piece) {
						t.Fatal("a piece begins or ends within a character")
					}
				}
				if got := strings.Join(texts, ""); strings.Contains(strings.TrimRight(got, "\uFFFD"), "\uFFFD") {
					t.Error("a character was torn between two pieces")
				}
			})
		})
	}
}

func slowly(l *attemptLog, text string, chunk int) {
	for len(text) > 0 {
		n := min(chunk, len(text))
		io.WriteString(l, text[:n])
		text = text[n:]
		pass(logPace + 1)
	}
}

func TestBrokenBytesAreReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fakeStore{}
		l := newTestLog(s)
		l.Write([]byte{'a', 0xff, 'b', 0xe5})
		l.Close()
		if texts, _ := s.kept(); strings.Join(texts, "") != "a\uFFFDb\uFFFD" {
			t.Errorf("stored %q", texts)
		}
	})
}

// A store that takes its time costs output, never the command's time.
func TestSlowStoreNeverHoldsUpTheWriter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fakeStore{slow: 1900 * time.Millisecond}
		l := newTestLog(s)
		began := time.Now()
		for range 2 * logBuffer / 1024 {
			io.WriteString(l, strings.Repeat("x", 1024))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("writing took %s of virtual time, want none", took)
		}
		if len(l.buf) > logBuffer {
			t.Errorf("%d bytes wait to be written, want at most %d", len(l.buf), logBuffer)
		}
		began = time.Now()
		l.Close()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("Close took %s, want at most 2s", took)
		}
		s.set(func(s *fakeStore) { s.slow = 0 })
		<-l.done // the goroutine ends by itself
	})
}

func TestDroppedOutputIsSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fakeStore{}
		l := newTestLog(s)
		io.WriteString(l, strings.Repeat("x", logBuffer+10))
		synctest.Wait()
		l.Close()
		if texts, _ := s.kept(); !strings.Contains(strings.Join(texts, ""), "some is missing") {
			t.Error("output was dropped and the log does not say so")
		}
	})
}

func TestLogWithoutStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &fakeStore{logAway: true}
		l := newTestLog(s)
		for range 50 {
			io.WriteString(l, "x")
			pass(100 * time.Millisecond)
		}
		l.Close()
		<-l.done
		if s.attempts == 0 {
			t.Error("nothing was tried")
		}
	})
}
