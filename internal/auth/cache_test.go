package auth

import (
	"testing"
	"time"

	"github.com/takt-dev/takt/internal/id"
)

func TestCacheForgets(t *testing.T) {
	now := time.Now()
	c := newCache[int](func() time.Time { return now })
	has := func(key string, want bool) {
		t.Helper()
		if _, ok := c.get(key); ok != want {
			t.Errorf("cache has %s: %v, want %v", key, ok, want)
		}
	}
	c.put("a", 1, now.Add(time.Second), c.mark())
	c.put("b", 1, now.Add(time.Minute), c.mark())
	has("a", true)
	now = now.Add(time.Second)
	has("a", false)
	has("b", true)

	mark := c.mark()
	c.drop("b")
	has("b", false)
	c.put("b", 1, now.Add(time.Minute), mark)
	has("b", false) // it was read before the drop
	c.put("b", 1, now.Add(time.Minute), c.mark())
	c.clear()
	has("b", false)

	for range 3 * maxCached {
		c.put(id.New(), 1, now.Add(time.Minute), c.mark())
	}
	if n := len(c.rows); n > maxCached {
		t.Errorf("cache has %d rows, want %d at most", n, maxCached)
	}
}
