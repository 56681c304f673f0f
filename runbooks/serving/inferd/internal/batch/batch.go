// Package batch puts requests together that wait for the same model, and refuses those that would
// have to wait too long.
package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"noble-runbooks/inferd/internal/model"
	"noble-runbooks/inferd/internal/oip"
)

var (
	// ErrFull is the answer to a request for which there is no room in the queue.
	ErrFull = errors.New("the queue is full")
	// ErrClosed is the answer once the batcher is being closed.
	ErrClosed = errors.New("the model is being taken down")
	// ErrRows is the answer to a request that is larger than the largest batch.
	ErrRows = errors.New("too many rows")
)

// Options say how much is put together and how much may wait.
type Options struct {
	// Rows is the largest batch, at least 1.
	Rows int
	// Delay is how long the first request of a batch waits for others.
	Delay time.Duration
	// Queue is how many requests may wait, at least 1.
	Queue int
	// Workers is how many batches run at a time, at least 1.
	Workers int
}

// Watcher hears what the batcher does. Its methods must not block.
type Watcher interface {
	Waited(time.Duration)
	Ran(rows int, took time.Duration)
}

// brief is a run that is so short that the way to another goroutine and back counts beside it.
const brief = time.Millisecond

// Batcher owns the queue of one model.
type Batcher struct {
	model   model.Model
	options Options
	watcher Watcher
	queue   chan *job
	batches bool           // whether the model takes several requests at once
	brief   atomic.Bool    // whether the last run was
	workers sync.WaitGroup // those who run batches

	mu      sync.Mutex // held to put a job into the queue, and to begin and end a worker
	running int        // workers; as many as may be while anything is in the queue
	closed  bool
}

type job struct {
	ctx    context.Context
	inputs []oip.Tensor
	rows   int
	since  time.Time
	done   chan answer // has room for the one answer, so that a worker never waits for a client
	run    atomic.Pointer[run]
}

// run is a batch that has gone to the model.
type run struct {
	began time.Time
	rows  int
}

type answer struct {
	outputs []oip.Tensor
	err     error
}

// New is a batcher that nobody has asked anything. Close ends it.
func New(m model.Model, options Options, watcher Watcher) *Batcher {
	b := &Batcher{
		model: m, options: options, watcher: watcher,
		queue: make(chan *job, options.Queue), batches: m.Signature().Batches(),
	}
	if !b.batches {
		b.options.Rows = 1
	}
	return b
}

// Waiting is how many requests are in the queue.
func (b *Batcher) Waiting() int { return len(b.queue) }

// Run runs the model on the inputs, which must have passed [model.Signature.Arrange], together with
// what others ask meanwhile. It returns when there is an answer or ctx ends; a request whose ctx has
// ended before its batch begins is not run.
//
// Where nothing waits, a worker is free and runs are brief, the caller is the worker: the way to another
// goroutine and back would cost more than the run. A run that is not brief has a goroutine of its own, since
// a runtime that is told to end goes on until it has done with an operator, and the caller need not.
func (b *Batcher) Run(ctx context.Context, inputs []oip.Tensor) ([]oip.Tensor, error) {
	j := &job{ctx: ctx, inputs: inputs, rows: 1, since: time.Now(), done: make(chan answer, 1)}
	if b.batches {
		if rows := inputs[0].Shape[0]; rows > int64(b.options.Rows) {
			return nil, fmt.Errorf("%w: the request has %d, a batch at most %d", ErrRows, rows, b.options.Rows)
		}
		j.rows = int(inputs[0].Shape[0])
	}
	var a answer
	switch free, err := b.put(j); {
	case err != nil:
		return nil, err
	case free && b.options.Delay == 0 && b.brief.Load():
		b.lone(j)
	case free:
		go b.work(j)
	}
	select {
	case a = <-j.done:
	case <-ctx.Done():
		a.err = context.Cause(ctx)
	}
	j.trace(a.err)
	return a.outputs, a.err
}

// trace adds its two phases to the request's span: the wait for a batch, and the batch's run.
func (j *job) trace(err error) {
	request := trace.SpanFromContext(j.ctx)
	if !request.IsRecording() {
		return
	}
	tracer := request.TracerProvider().Tracer("inferd")
	start := func(name string, at time.Time) trace.Span {
		_, span := tracer.Start(j.ctx, name, trace.WithTimestamp(at))
		return span
	}
	now := time.Now()
	last := start("queue", j.since)
	if run := j.run.Load(); run != nil {
		last.End(trace.WithTimestamp(run.began))
		last = start("model", run.began)
		last.SetAttributes(attribute.Int("inferd.batch.rows", run.rows))
	}
	if err != nil {
		last.SetStatus(codes.Error, err.Error())
	}
	last.End(trace.WithTimestamp(now))
}

// put makes the caller a worker if one is free, who then has j to run; else it puts j into the queue.
func (b *Batcher) put(j *job) (free bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return false, ErrClosed
	case b.running < b.options.Workers: // nothing is in the queue
		b.running++
		b.workers.Add(1)
		return true, nil
	}
	select {
	case b.queue <- j:
		return false, nil
	default:
		return false, ErrFull
	}
}

// next is what a worker does next: a job that waits. It is one no more if there is none.
func (b *Batcher) next() *job {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case j, open := <-b.queue:
		if open {
			return j
		}
	default:
	}
	b.running--
	b.workers.Done()
	return nil
}

// Close takes no more requests, lets those that wait be answered, and returns when the last one is.
func (b *Batcher) Close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.queue)
	}
	b.mu.Unlock()
	b.workers.Wait()
}

// lone runs a job in the caller's goroutine, and leaves to another what has come meanwhile.
func (b *Batcher) lone(j *job) {
	if batch, _ := b.staying([]*job{j}); len(batch) > 0 {
		b.run(batch)
	}
	if waiting := b.next(); waiting != nil {
		go b.work(waiting)
	}
}

// work runs first with what else waits, and goes on until nothing does.
func (b *Batcher) work(first *job) {
	for first != nil {
		batch, other := b.gather(first)
		if len(batch) > 0 {
			b.run(batch)
		}
		if first = other; first == nil {
			first = b.next()
		}
	}
}

// gather waits for jobs that can run with first. It also returns the one that could not, if any: it is
// taken from the queue, and goes first the next time.
func (b *Batcher) gather(first *job) (batch []*job, next *job) {
	timer := time.NewTimer(b.options.Delay)
	defer timer.Stop()
	batch, rows := b.staying([]*job{first})
	for rows < b.options.Rows {
		j, ok := b.await(timer)
		batch, rows = b.staying(batch)
		switch {
		case !ok:
			return batch, nil
		case len(batch) > 0 && !fits(batch[0], j, b.options.Rows-rows):
			return batch, j
		}
		batch, rows = b.staying(append(batch, j))
	}
	return batch, nil
}

// staying is the batch without those who have given up, whose places are free again, and its rows.
func (b *Batcher) staying(batch []*job) (stay []*job, rows int) {
	stay = slices.DeleteFunc(batch, func(j *job) bool {
		gone := j.ctx.Err() != nil
		if gone {
			b.watcher.Waited(time.Since(j.since))
		} else {
			rows += j.rows
		}
		return gone
	})
	return stay, rows
}

// await returns the next job, or false when there is none before the timer. What waits already is
// taken even if there is no time left.
func (b *Batcher) await(timer *time.Timer) (*job, bool) {
	select {
	case j, open := <-b.queue:
		return j, open
	default:
	}
	select {
	case j, open := <-b.queue:
		return j, open
	case <-timer.C:
		return nil, false
	}
}

// fits says whether other can run in one batch with first, in which there is room for so many rows.
func fits(first, other *job, room int) bool {
	return other.rows <= room && slices.EqualFunc(first.inputs, other.inputs,
		func(a, b oip.Tensor) bool { return slices.Equal(a.Shape[1:], b.Shape[1:]) })
}

// run runs a batch and tells each job its part.
func (b *Batcher) run(batch []*job) {
	ctx, cancel := together(batch)
	defer cancel()
	inputs, rows := join(batch)
	this := &run{began: time.Now(), rows: rows}
	for _, j := range batch {
		b.watcher.Waited(this.began.Sub(j.since))
		j.run.Store(this)
	}
	outputs, err := b.model.Run(ctx, inputs)
	took := time.Since(this.began)
	b.brief.Store(took < brief)
	b.watcher.Ran(rows, took)
	if err == nil && len(batch) > 1 {
		err = divisible(outputs, rows)
	}
	from := 0
	for _, j := range batch {
		if err != nil {
			j.done <- answer{err: err}
			continue
		}
		part := outputs
		if len(batch) > 1 {
			part = cut(outputs, from, from+j.rows, rows)
		}
		from += j.rows
		j.done <- answer{outputs: part}
	}
}

// together is a context that ends when the last of the jobs' contexts has.
func together(batch []*job) (context.Context, context.CancelFunc) {
	if len(batch) == 1 {
		return batch[0].ctx, func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(batch[0].ctx))
	var left sync.WaitGroup
	left.Add(len(batch))
	stops := make([]func() bool, len(batch))
	for index, j := range batch {
		stops[index] = context.AfterFunc(j.ctx, left.Done)
	}
	go func() { left.Wait(); cancel() }()
	return ctx, func() {
		for _, stop := range stops {
			if stop() {
				left.Done() // it never will by itself
			}
		}
	}
}

// join puts the inputs of several jobs one below the other; a single job's are taken as they are.
func join(batch []*job) (inputs []oip.Tensor, rows int) {
	if len(batch) == 1 {
		return batch[0].inputs, batch[0].rows
	}
	for _, j := range batch {
		rows += j.rows
	}
	inputs = make([]oip.Tensor, len(batch[0].inputs))
	for index, first := range batch[0].inputs {
		joined := first
		joined.Shape = slices.Clone(first.Shape)
		joined.Shape[0] = int64(rows)
		joined.Raw = make([]byte, 0, len(first.Raw)/batch[0].rows*rows)
		for _, j := range batch {
			joined.Raw = append(joined.Raw, j.inputs[index].Raw...)
		}
		inputs[index] = joined
	}
	return inputs, rows
}

// divisible fails if a model that should answer row by row did not.
func divisible(outputs []oip.Tensor, rows int) error {
	for _, output := range outputs {
		if len(output.Shape) == 0 || output.Shape[0] != int64(rows) {
			return fmt.Errorf("the model answered %d rows with output %q of shape %v",
				rows, output.Name, output.Shape)
		}
	}
	return nil
}

// cut returns the rows [from, to) of each output.
func cut(outputs []oip.Tensor, from, to, rows int) []oip.Tensor {
	part := make([]oip.Tensor, len(outputs))
	for index, output := range outputs {
		row := len(output.Raw) / rows
		part[index] = output
		part[index].Shape = slices.Clone(output.Shape)
		part[index].Shape[0] = int64(to - from)
		part[index].Raw = output.Raw[from*row : to*row : to*row]
	}
	return part
}
