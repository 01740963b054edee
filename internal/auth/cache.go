package auth

import (
	"sync"
	"time"
)

// maxCached bounds the rows of a cache.
const maxCached = 10_000

// cache remembers answers for a short time. Its marks keep an answer that was
// read before a drop from being remembered after it: a logout that runs beside
// a Validate of the same session would else be undone for seconds.
type cache[V any] struct {
	now func() time.Time

	mu    sync.Mutex
	rows  map[string]cached[V]
	drops uint64
}

type cached[V any] struct {
	value V
	until time.Time
}

func newCache[V any](now func() time.Time) *cache[V] {
	return &cache[V]{now: now, rows: map[string]cached[V]{}}
}

// get returns what is remembered under key.
func (c *cache[V]) get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	row, ok := c.rows[key]
	if !ok || !c.now().Before(row.until) {
		var none V
		return none, false
	}
	return row.value, true
}

// mark is to be taken before an answer is read and given to put with it.
func (c *cache[V]) mark() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drops
}

// put remembers v until then, unless anything was dropped since mark.
func (c *cache[V]) put(key string, v V, until time.Time, mark uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if mark != c.drops {
		return
	}
	if len(c.rows) >= maxCached {
		c.shrink()
	}
	c.rows[key] = cached[V]{v, until}
}

// drop forgets one answer.
func (c *cache[V]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	delete(c.rows, key)
}

// clear forgets all answers.
func (c *cache[V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	clear(c.rows)
}

// shrink drops what is out of date, and everything when that is not enough: to
// ask again costs little, to look for the oldest row at each put much.
func (c *cache[V]) shrink() {
	now := c.now()
	for key, row := range c.rows {
		if !now.Before(row.until) {
			delete(c.rows, key)
		}
	}
	if len(c.rows) >= maxCached {
		clear(c.rows)
	}
}
