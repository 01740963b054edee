package backup

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/takt-dev/takt/internal/cbt/qcow2"
)

const (
	readers = 4       // connections that read at once
	ahead   = 8       // pieces in memory
	piece   = 1 << 20 // bytes that are read at once
)

// part is a piece on its way from a reader to the file.
type part struct {
	offset uint64
	data   []byte
	read   chan error // when it was read
}

// stream reads the data of runs with some connections at once, and calls each with it in
// order, in the caller's goroutine. A piece is whole clusters, but for the disk's end.
func stream(ctx context.Context, open func(context.Context) (Reader, error), runs []qcow2.Run, pace *pace, each func([]byte) error) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	todo, order, free := make(chan *part), make(chan *part, ahead), make(chan []byte, ahead)
	for range ahead {
		free <- make([]byte, piece)
	}
	for range readers {
		r, err := open(ctx)
		if err != nil {
			return err
		}
		running.Go(func() { serve(ctx, r, todo) })
	}
	running.Go(func() {
		defer close(order)
		defer close(todo)
		divide(ctx, runs, pace, free, func(p *part) bool {
			return send(ctx, order, p) && send(ctx, todo, p)
		})
	})
	for p := range order {
		select {
		case err := <-p.read:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := each(p.data); err != nil {
			return err
		}
		free <- p.data[:piece]
	}
	return ctx.Err()
}

func send(ctx context.Context, to chan<- *part, p *part) bool {
	select {
	case to <- p:
		return true
	case <-ctx.Done():
		return false
	}
}

// serve reads parts by one connection.
func serve(ctx context.Context, r Reader, todo <-chan *part) {
	defer func() { _ = r.Close() }() // nothing was written
	for {
		select {
		case p, more := <-todo:
			if !more {
				return
			}
			err := r.Read(ctx, p.data, p.offset)
			if err != nil {
				err = fmt.Errorf("read %d bytes at %d: %w", len(p.data), p.offset, err)
			}
			p.read <- err
		case <-ctx.Done():
			return
		}
	}
}

// divide cuts the data of runs into parts, as fast as there are buffers and the pace
// allows.
func divide(ctx context.Context, runs []qcow2.Run, pace *pace, free <-chan []byte, give func(*part) bool) {
	for _, r := range runs {
		if r.Kind != qcow2.Data {
			continue
		}
		for at := r.Offset; at < r.Offset+r.Length; {
			n := min(piece, r.Offset+r.Length-at)
			if pace.wait(ctx, n) != nil {
				return
			}
			select {
			case buffer := <-free:
				if !give(&part{at, buffer[:n], make(chan error, 1)}) {
					return
				}
			case <-ctx.Done():
				return
			}
			at += n
		}
	}
}

// pace keeps to a rate. One goroutine at a time uses it.
type pace struct {
	rate uint64    // bytes a second; 0: no bound
	next time.Time // when more may follow
}

// wait returns when n more bytes may follow those before, or ctx has ended.
func (p *pace) wait(ctx context.Context, n uint64) error {
	if p.rate == 0 {
		return ctx.Err()
	}
	now := time.Now()
	pause := p.next.Sub(now)
	if p.next = later(p.next, now).Add(lasts(n, p.rate)); pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lasts is how long n bytes take at a rate.
func lasts(n, rate uint64) time.Duration {
	return time.Duration(float64(n) / float64(rate) * float64(time.Second))
}
