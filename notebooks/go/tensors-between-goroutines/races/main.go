// Command races hands a tensor's shape from one goroutine to another. It is built with -race, which tells whether that
// is a data race. It imports little, since -race compiles all of it anew.
package main

import (
	"os"
	"sync"
	"sync/atomic"
)

func main() {
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
