// Package loader keeps a consumer fed: a goroutine reads ahead of it, within a number of bytes.
//
// A capacity in batches would be none: how much memory they take depends on the batch.
package loader

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// A Source gives the next batch, io.EOF after the last one. It is called from one goroutine.
type Source func(ctx context.Context) ([]byte, error)

// A Loader reads ahead of its consumer. Beyond the bytes it was given there are two batches: the one
// that was read and waits for room, and the one that the consumer works on.
type Loader struct {
	batches chan []byte
	cancel  context.CancelFunc
	room    *semaphore.Weighted
	bytes   int64
	failure error // why it ended; read after batches was closed

	held    atomic.Int64
	full    atomic.Int64 // nanoseconds in which the source waited: the consumer is what is slow
	starved atomic.Int64 // nanoseconds in which the consumer waited: the source is what is slow
}

// Stats say which side waits for the other. Export them: they tell which one to make faster.
type Stats struct {
	Held          int64 // bytes that were read and not yet taken
	Full, Starved time.Duration
}

// Start begins to read, at most ahead bytes in advance, until ctx ends.
func Start(ctx context.Context, ahead int64, source Source) *Loader {
	ctx, cancel := context.WithCancel(ctx)
	l := &Loader{
		batches: make(chan []byte, 1024), // the bytes are the limit; this is for tiny batches
		cancel:  cancel,
		room:    semaphore.NewWeighted(ahead),
		bytes:   ahead,
	}
	go l.read(ctx, source)
	return l
}

func (l *Loader) read(ctx context.Context, source Source) {
	defer close(l.batches)
	defer func() { // a panic here would end the whole process, whoever started the loader
		if reason := recover(); reason != nil {
			l.failure = fmt.Errorf("the source panicked: %v", reason)
		}
	}()
	for {
		batch, err := source(ctx)
		if err != nil {
			l.failure = err
			return
		}
		size := int64(len(batch))
		if size > l.bytes {
			l.failure = fmt.Errorf("a batch has %d bytes and %d may be read ahead: allow more, or make batches smaller", size, l.bytes)
			return
		}
		began := time.Now()
		if l.failure = l.room.Acquire(ctx, size); l.failure != nil {
			return
		}
		l.held.Add(size)
		select {
		case l.batches <- batch:
		case <-ctx.Done():
			l.failure = ctx.Err()
			return
		}
		l.full.Add(int64(time.Since(began)))
	}
}

// Next gives the next batch: io.EOF after the last one, the source's error, or ctx's.
func (l *Loader) Next(ctx context.Context) ([]byte, error) {
	began := time.Now()
	defer func() { l.starved.Add(int64(time.Since(began))) }()
	select {
	case batch, ok := <-l.batches:
		if !ok {
			return nil, l.failure
		}
		size := int64(len(batch))
		l.held.Add(-size)
		l.room.Release(size)
		return batch, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the reading, and returns when it has ended: what the source uses may be closed then.
func (l *Loader) Close() error {
	l.cancel()
	for range l.batches {
	}
	if l.failure == io.EOF || l.failure == context.Canceled {
		return nil
	}
	return l.failure
}

// Stats are those of this moment.
func (l *Loader) Stats() Stats {
	return Stats{l.held.Load(), time.Duration(l.full.Load()), time.Duration(l.starved.Load())}
}
