// feed shows what stands between a source and a consumer that is not ready: feed CASE WAY
package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"feed/loader"
)

const (
	size  = 64 << 10 // bytes of a batch
	total = 2000     // batches of the source
	wait  = time.Minute
)

func main() {
	cases := map[string]func(string){
		"ready": ready, "upstream": upstream, "leaves": leaves, "waits": waits, "fails": fails, "pixels": pixels,
	}
	cases[os.Args[1]](os.Args[2])
}

// source counts the batches that were taken from it.
type source struct{ given atomic.Int64 }

func (s *source) next(context.Context) ([]byte, error) {
	if s.given.Load() == total {
		return nil, io.EOF
	}
	s.given.Add(1)
	return make([]byte, size), nil
}

// parked waits until the goroutine that runs function waits for something, and says for what; "ended"
// if there is none.
func parked(function string) string {
	header := regexp.MustCompile(`^goroutine \d+ \[([^],]*)`)
	before, since := "", time.Now()
	for began := time.Now(); time.Since(began) < wait; time.Sleep(20 * time.Millisecond) {
		stacks := make([]byte, 1<<20)
		state := "ended"
		for _, one := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(one, "."+function+"(") || strings.Contains(one, ".gowrap") { // or it has yet to begin
				state = header.FindStringSubmatch(one)[1]
			}
		}
		if state != before {
			before, since = state, time.Now()
		}
		if state == "ended" || state != "running" && state != "runnable" && time.Since(since) > 300*time.Millisecond {
			return state
		}
	}
	return "still running"
}

func fill(s *source, put func([]byte) error, end func()) {
	defer end()
	for {
		batch, err := s.next(context.Background())
		if err != nil || put(batch) != nil {
			return
		}
	}
}

// ready: how much is taken from the source while its consumer is not ready, and what comes through after that.
func ready(way string) {
	var s source
	function := "fill"
	var drain func() int // how many batches come through
	switch way {
	case "io.Pipe", "os.Pipe":
		var from io.Reader
		var to io.WriteCloser
		if way == "io.Pipe" {
			from, to = io.Pipe()
		} else {
			reader, writer, err := os.Pipe()
			must(err)
			from, to = reader, writer
		}
		go fill(&s, func(batch []byte) error { _, err := to.Write(batch); return err }, func() { to.Close() })
		drain = func() int {
			n, err := io.Copy(io.Discard, from)
			must(err)
			return int(n / size)
		}
	case "chan", "unbounded":
		batches := make(chan []byte, 1024)
		if way == "unbounded" {
			batches = make(chan []byte, total)
		}
		go fill(&s, func(batch []byte) error { batches <- batch; return nil }, func() { close(batches) })
		drain = func() (n int) {
			for range batches {
				n++
			}
			return n
		}
	case "loader":
		function = "(*Loader).read"
		l := loader.Start(context.Background(), 16*size, s.next)
		drain = func() (n int) {
			for {
				if _, err := l.Next(context.Background()); err != nil {
					return n
				}
				n++
			}
		}
	}
	state := parked(function)
	given := s.given.Load()
	held := max(given-1, 0)
	if state == "ended" {
		held = given
	}
	fmt.Printf("%s: %d batches taken and held, %.1f MiB; then the source: %s; of %d came through %d\n",
		way, held, float64(held*size)/(1<<20), state, total, drain())
}

// upstream: two stages, and a consumer that takes nothing, then ten.
func upstream(way string) {
	var read atomic.Int64
	first, second := make(chan int, 4), make(chan int, 4)
	go stage1(way, &read, first)
	go stage2(first, second)
	state := parked("stage1")
	before := read.Load()
	for range 10 {
		<-second
	}
	parked("stage1")
	fmt.Printf("%s: read %d of 1000 before the consumer took any, then the source: %s; %d after it took 10\n",
		way, before, state, read.Load())
}

func stage1(way string, read *atomic.Int64, out chan<- int) {
	for i := range 1000 {
		read.Add(1)
		if way == "goroutines" {
			go func() { out <- i }()
		} else {
			out <- i
		}
	}
}

func stage2(in <-chan int, out chan<- int) {
	for i := range in {
		out <- i
	}
}

// leaves: the consumer takes three and returns; does what fed it end?
func leaves(way string) {
	var s source
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if way == "loader" {
		l := loader.Start(ctx, 4*size, s.next)
		for range 3 {
			_, err := l.Next(ctx)
			must(err)
		}
		must(l.Close())
		fmt.Printf("%s: %s\n", way, parked("(*Loader).read"))
		return
	}
	batches := make(chan []byte, 4)
	go fill(&s, func(batch []byte) error {
		if way == "chan" {
			batches <- batch
			return nil
		}
		select {
		case batches <- batch:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, func() {})
	for range 3 {
		<-batches
	}
	cancel()
	fmt.Printf("%s: %s\n", way, parked("fill"))
}

// waits: for a device that never becomes ready.
func waits(way string) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	go func() { <-ctx.Done() }()
	switch way {
	case "WaitGroup":
		go device()
	case "context":
		go deviceOrGone(ctx)
	}
	<-ctx.Done()
	fmt.Printf("%s: %s\n", way, parked(map[string]string{"WaitGroup": "device", "context": "deviceOrGone"}[way]))
}

func device() {
	var initialised sync.WaitGroup
	initialised.Add(1)
	initialised.Wait()
}

func deviceOrGone(ctx context.Context) {
	initialised := make(chan struct{})
	select {
	case <-initialised:
	case <-ctx.Done():
	}
}

// fails: what the consumer of the loader is told; or which side waits.
func fails(way string) {
	ctx := context.Background()
	var s source
	next := s.next
	ahead := int64(4 * size)
	switch way {
	case "panic":
		next = func(context.Context) ([]byte, error) { return make([]byte, 8)[9:], nil }
	case "error":
		next = func(context.Context) ([]byte, error) { return nil, errors.New("shard 3 cannot be read") }
	case "large":
		ahead = 1000
	case "gone":
		timed, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		ctx = timed
		next = func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
	case "slow source":
		next = func(ctx context.Context) ([]byte, error) { time.Sleep(5 * time.Millisecond); return s.next(ctx) }
	}
	l := loader.Start(ctx, ahead, next)
	for range 100 {
		_, err := l.Next(ctx)
		if err != nil {
			fmt.Printf("%s: %v\n", way, err)
			return
		}
		if way == "slow consumer" {
			time.Sleep(5 * time.Millisecond)
		}
	}
	stats := l.Stats()
	must(l.Close())
	most := "the consumer waited for the source"
	if stats.Full > stats.Starved {
		most = "the source waited for room"
	}
	fmt.Printf("%s: mostly %s\n", way, most)
}

// pixels: one goroutine reads an image while another one augments what it got of it.
func pixels(way string) {
	whole := image.NewRGBA(image.Rect(0, 0, 64, 64))
	part := image.Rect(0, 0, 32, 32)
	crop := whole.SubImage(part).(*image.RGBA)
	if way == "copied" {
		own := image.NewRGBA(part)
		for y := range 32 {
			copy(own.Pix[own.PixOffset(0, y):own.PixOffset(0, y)+4*32], crop.Pix[crop.PixOffset(0, y):])
		}
		crop = own
	}
	var both sync.WaitGroup
	both.Go(func() {
		if way == "read" {
			_ = crop.At(1, 1)
		} else {
			crop.Set(1, 1, color.White)
		}
	})
	both.Go(func() { _ = whole.At(1, 1) })
	both.Wait()
	fmt.Printf("%s: ends\n", way)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
