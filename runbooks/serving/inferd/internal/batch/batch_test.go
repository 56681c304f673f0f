package batch

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"noble-runbooks/inferd/internal/model"
	"noble-runbooks/inferd/internal/oip"
)

// fake answers each row with itself, after some time, and remembers how many rows each batch had.
type fake struct {
	takes time.Duration
	fails error
	fixed bool // not batchable

	mu      sync.Mutex
	batches []int
	stopped atomic.Int32
}

func (f *fake) Signature() *model.Signature {
	port := model.Port{Name: "x", Datatype: oip.Uint8, Shape: []int64{-1, -1}}
	if f.fixed {
		port.Shape = []int64{1, 2}
	}
	return &model.Signature{Inputs: []model.Port{port}, Outputs: []model.Port{port}}
}

func (f *fake) Run(ctx context.Context, inputs []oip.Tensor) ([]oip.Tensor, error) {
	f.mu.Lock()
	f.batches = append(f.batches, int(inputs[0].Shape[0]))
	f.mu.Unlock()
	select {
	case <-time.After(f.takes):
	case <-ctx.Done():
		f.stopped.Add(1)
		return nil, context.Cause(ctx)
	}
	return slices.Clone(inputs), f.fails
}

func (f *fake) Close() error { return nil }

type silent struct{}

func (silent) Waited(time.Duration)   {}
func (silent) Ran(int, time.Duration) {}

func rows(values ...byte) []oip.Tensor { return wide(1, values...) }

func wide(columns int, values ...byte) []oip.Tensor {
	shape := []int64{int64(len(values) / columns), int64(columns)}
	return []oip.Tensor{{Name: "x", Datatype: oip.Uint8, Shape: shape, Raw: values}}
}

// ask runs every request at once and returns what each got.
func ask(t *testing.T, b *Batcher, requests ...[]oip.Tensor) ([][]byte, []error) {
	t.Helper()
	answers, errs := make([][]byte, len(requests)), make([]error, len(requests))
	var all sync.WaitGroup
	for index, inputs := range requests {
		all.Go(func() {
			outputs, err := b.Run(t.Context(), inputs)
			if errs[index] = err; err == nil {
				answers[index] = outputs[0].Raw
			}
		})
	}
	all.Wait()
	return answers, errs
}

func TestRequestsAreJoinedAndEachGetsItsOwnRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Second}
		b := New(f, Options{Rows: 8, Delay: time.Millisecond, Queue: 8, Workers: 1}, silent{})
		defer b.Close()
		answers, errs := ask(t, b, rows(1), rows(2, 3), rows(4))
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if got := slices.Concat(answers...); !slices.Equal(got, []byte{1, 2, 3, 4}) {
			t.Errorf("the answers are %v", answers)
		}
		if !slices.Equal(f.batches, []int{4}) {
			t.Errorf("the batches had %v rows", f.batches)
		}
	})
}

func TestABatchIsNeverLargerThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Second}
		b := New(f, Options{Rows: 2, Delay: time.Millisecond, Queue: 8, Workers: 1}, silent{})
		defer b.Close()
		_, errs := ask(t, b, rows(1), rows(2), rows(3), rows(4, 5), rows(6))
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if largest := slices.Max(f.batches); largest > 2 {
			t.Errorf("the batches had %v rows", f.batches)
		}
		if _, err := b.Run(t.Context(), rows(1, 2, 3)); !errors.Is(err, ErrRows) {
			t.Errorf("three rows: %v", err)
		}
	})
}

func TestOtherShapesAreNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Second}
		b := New(f, Options{Rows: 8, Delay: time.Millisecond, Queue: 8, Workers: 1}, silent{})
		defer b.Close()
		answers, errs := ask(t, b, wide(2, 1, 2), wide(3, 3, 4, 5))
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(answers[0], []byte{1, 2}) || !slices.Equal(answers[1], []byte{3, 4, 5}) {
			t.Errorf("the answers are %v", answers)
		}
	})
}

func TestAModelWithoutABatchDimensionRunsOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Second, fixed: true}
		b := New(f, Options{Rows: 8, Delay: time.Millisecond, Queue: 8, Workers: 1}, silent{})
		defer b.Close()
		_, errs := ask(t, b, wide(2, 1, 2), wide(2, 3, 4))
		if err := errors.Join(errs...); err != nil || !slices.Equal(f.batches, []int{1, 1}) {
			t.Errorf("the batches had %v rows: %v", f.batches, err)
		}
	})
}

func TestWhatDoesNotFitTheQueueIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Second}
		b := New(f, Options{Rows: 1, Queue: 1, Workers: 1}, silent{})
		defer b.Close()
		first := make(chan error, 1)
		go func() { _, err := b.Run(t.Context(), rows(1)); first <- err }()
		synctest.Wait() // it runs
		second := make(chan error, 1)
		go func() { _, err := b.Run(t.Context(), rows(2)); second <- err }()
		synctest.Wait() // it waits
		began := time.Now()
		if _, err := b.Run(t.Context(), rows(3)); !errors.Is(err, ErrFull) || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if err := errors.Join(<-first, <-second); err != nil {
			t.Error(err)
		}
	})
}

func TestWhoLeavesIsNotWaitedForAndItsRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Hour}
		b := New(f, Options{Rows: 1, Queue: 2, Workers: 1}, silent{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		late := make(chan error, 1)
		go func() { synctest.Wait(); _, err := b.Run(ctx, rows(2)); late <- err }()
		if _, err := b.Run(ctx, rows(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := <-late; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the one that waited got %v", err)
		}
		b.Close() // ends at once: the run was ended, and the one that waited is not run
		if f.stopped.Load() != 1 || !slices.Equal(f.batches, []int{1}) {
			t.Errorf("%d runs were ended; the batches had %v rows", f.stopped.Load(), f.batches)
		}
	})
}

func TestWhoGivesUpLeavesItsPlaceToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		b := New(f, Options{Rows: 2, Delay: time.Minute, Queue: 8, Workers: 1}, silent{})
		defer b.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Run(ctx, rows(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		// The batch is still being formed; it has room for two, as if the first had never come.
		answers, errs := ask(t, b, rows(2), rows(3))
		if err := errors.Join(errs...); err != nil || !slices.Equal(slices.Concat(answers...), []byte{2, 3}) {
			t.Errorf("got %v, %v", answers, err)
		}
		if !slices.Equal(f.batches, []int{2}) {
			t.Errorf("the batches had %v rows", f.batches)
		}
	})
}

func TestABatchThatAllHaveLeftIsNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		b := New(f, Options{Rows: 8, Delay: time.Minute, Queue: 8, Workers: 1}, silent{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Run(ctx, rows(1, 2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		b.Close()
		if len(f.batches) > 0 {
			t.Errorf("the batches had %v rows", f.batches)
		}
	})
}

func TestAJoinedRunGoesOnForThoseWhoStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Minute}
		b := New(f, Options{Rows: 2, Delay: time.Second, Queue: 2, Workers: 1}, silent{})
		defer b.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		left := make(chan error, 1)
		go func() { _, err := b.Run(ctx, rows(1)); left <- err }()
		outputs, err := b.Run(t.Context(), rows(2))
		if err != nil || !slices.Equal(outputs[0].Raw, []byte{2}) || !errors.Is(<-left, context.DeadlineExceeded) {
			t.Errorf("got %v, %v", outputs, err)
		}
	})
}

func TestClosingAnswersWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Second}
		b := New(f, Options{Rows: 1, Queue: 4, Workers: 1}, silent{})
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if _, err := b.Run(t.Context(), rows(1)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		b.Close()
		all.Wait()
		if _, err := b.Run(t.Context(), rows(1)); !errors.Is(err, ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestAFailureIsToldToEachOfTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{fails: errors.New("out of memory")}
		b := New(f, Options{Rows: 2, Delay: time.Second, Queue: 2, Workers: 1}, silent{})
		defer b.Close()
		_, errs := ask(t, b, rows(1), rows(2))
		for _, err := range errs {
			if !errors.Is(err, f.fails) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// stacked remembers whose goroutine ran each batch.
type stacked struct {
	fake
	stacks []string
}

func (s *stacked) Run(ctx context.Context, inputs []oip.Tensor) ([]oip.Tensor, error) {
	s.stacks = append(s.stacks, string(debug.Stack()))
	return s.fake.Run(ctx, inputs)
}

func TestALoneRequestIsRunByItsOwnGoroutineIfRunsAreBrief(t *testing.T) {
	for _, c := range []struct {
		takes, delay time.Duration
		own          bool
	}{{0, 0, true}, {brief, 0, false}, {0, time.Second, false}} {
		synctest.Test(t, func(t *testing.T) {
			s := &stacked{fake: fake{takes: c.takes}}
			b := New(s, Options{Rows: 8, Delay: c.delay, Queue: 8, Workers: 1}, silent{})
			defer b.Close()
			for value := range byte(2) { // the first tells how long a run takes
				if _, err := b.Run(t.Context(), rows(value)); err != nil {
					t.Fatal(err)
				}
			}
			if own := strings.Contains(s.stacks[1], t.Name()); own != c.own {
				t.Errorf("runs of %s, delay %s: its own is %t", c.takes, c.delay, own)
			}
		})
	}
}

func TestWhatComesDuringALoneRunIsABatchThatTheFirstDoesNotWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		b := New(f, Options{Rows: 8, Queue: 8, Workers: 1}, silent{})
		defer b.Close()
		if _, err := b.Run(t.Context(), rows(0)); err != nil {
			t.Fatal(err)
		}
		f.takes = time.Second // and nobody knows
		began := time.Now()
		first := make(chan time.Duration, 1)
		go func() { _, _ = b.Run(t.Context(), rows(1)); first <- time.Since(began) }()
		synctest.Wait() // it runs
		answers, errs := ask(t, b, rows(2), rows(3, 4))
		if err := errors.Join(errs...); err != nil || len(answers[0]) != 1 || len(answers[1]) != 2 {
			t.Errorf("got %v, %v", answers, err)
		}
		if took := <-first; took != time.Second {
			t.Errorf("the first waited %s", took)
		}
		if !slices.Equal(f.batches, []int{1, 1, 3}) {
			t.Errorf("the batches had %v rows", f.batches)
		}
	})
}
