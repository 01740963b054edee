package main

import (
	"container/heap"
	"context"
	"time"
)

// timerHeap is the reference of the trigger rows: entries of nothing but a time,
// in one heap, with one timer.
type timerHeap []time.Time

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].Before(h[j]) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(time.Time)) }
func (h *timerHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// bareHeap pops n entries as they fall due, each offset from the start, and
// returns how late each was, in ms. It ends after most, or with 0 when the heap
// is empty.
func bareHeap(ctx context.Context, n int, offset func(i int) time.Duration, most time.Duration) []float64 {
	start := time.Now().Add(200 * time.Millisecond)
	h := make(timerHeap, n)
	for i := range h {
		h[i] = start.Add(offset(i))
	}
	heap.Init(&h)
	var late []float64
	timer := time.NewTimer(0)
	defer timer.Stop()
	for len(h) > 0 && (most == 0 || time.Since(start) < most) {
		now := time.Now()
		for len(h) > 0 && !h[0].After(now) {
			late = append(late, ms(time.Since(h[0])))
			heap.Pop(&h)
		}
		if len(h) == 0 {
			break
		}
		timer.Reset(time.Until(h[0]))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return late
		}
	}
	return late
}
