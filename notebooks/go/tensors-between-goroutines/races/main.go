// Command races hands a tensor's shape from one goroutine to another, or gathers requests of two in a batch. It is built with -race, which tells whether that
// is a data race. It imports little, since -race compiles all of it anew.
package main

import (
	"os"
	"sync"
	"sync/atomic"
)

// batch gathers requests, and runs them when it is full.
type batch struct {
	lock     sync.Mutex
	requests []int
	runs     int
}

func (b *batch) add(request int) {
	b.requests = append(b.requests, request)
	if len(b.requests) >= 16 {
		b.runs++
		b.requests = nil
	}
}

// gather adds the requests of two clients, as a server does that has a goroutine for each.
func gather(how string) {
	var gathered batch
	var both sync.WaitGroup
	for client := range 2 {
		both.Go(func() {
			for range 64 {
				if how == "locked" {
					gathered.lock.Lock()
				}
				gathered.add(client)
				if how == "locked" {
					gathered.lock.Unlock()
				}
			}
		})
	}
	both.Wait()
	println("batch ends", how)
}

func main() {
	if os.Args[1] == "batch" {
		gather(os.Args[2])
		return
	}
	var shape [2]int
	var data, version atomic.Int32
	var both sync.WaitGroup
	both.Add(2)
	seen := 0
	go func() { // writes the shape
		defer both.Done()
		shape = [2]int{3, 4}
		if os.Args[1] != "plain" {
			data.Store(1)
		}
	}()
	go func() { // reads it
		defer both.Done()
		switch os.Args[1] {
		case "same": // waits for the very variable that the other stores to
			for data.Load() == 0 {
			}
		case "another": // loads one, and not that
			version.Load()
		}
		seen = shape[0] * shape[1]
	}()
	both.Wait()
	println(os.Args[1], "ends", seen >= 0)
}
