// Command wakeup measures two things that depend on the machine and its kernel: how long a
// goroutine blocked in Read takes to notice that data has come, and how long the garbage collector
// stops the program. It prints the medians, in microseconds.
package main

import (
	"fmt"
	"log"
	"net"
	"runtime"
	"runtime/debug"
	"sort"
	"time"
)

const rounds = 2000

var kept [][]byte // what the collector has to look at

func main() {
	for i := 0; i < 100_000; i++ {
		kept = append(kept, make([]byte, 64))
	}
	wakeups, err := measure()
	if err != nil {
		log.Fatal(err)
	}
	for i := 0; i < 50; i++ {
		runtime.GC()
	}
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	fmt.Printf("wakeup %.1f gc_pause %.1f\n", median(wakeups), median(stats.Pause))
}

// measure sends one byte at a time over loopback TCP, and notes how long each was under way.
func measure() ([]time.Duration, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	sent := make(chan time.Time, 1)
	next := make(chan bool)
	go func() {
		connection, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer connection.Close()
		for range next {
			time.Sleep(100 * time.Microsecond) // so that the reader is blocked by then
			sent <- time.Now()
			connection.Write([]byte{1})
		}
	}()
	connection, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	var took []time.Duration
	buffer := make([]byte, 1)
	for i := 0; i < rounds; i++ {
		next <- true
		if _, err := connection.Read(buffer); err != nil {
			return nil, err
		}
		took = append(took, time.Since(<-sent))
	}
	close(next)
	return took, nil
}

func median(times []time.Duration) float64 {
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	return float64(times[len(times)/2]) / float64(time.Microsecond)
}
