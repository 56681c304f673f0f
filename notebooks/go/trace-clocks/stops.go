// Collects a large heap nine times while a goroutine looks at the clock, and says how much of a
// collection was the goroutine's longest wait: the least, in percent, since what else the machine does
// only adds to it.
package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

type node struct{ next *node }

func main() {
	var heap *node
	for range [4_000_000]int{} {
		heap = &node{heap}
	}
	var longest, end atomic.Int64
	go func() {
		for last := time.Now(); end.Load() == 0; {
			now := time.Now()
			if wait := int64(now.Sub(last)); wait > longest.Load() {
				longest.Store(wait)
			}
			last = now
		}
	}()
	least := int64(100)
	for range [9]int{} {
		longest.Store(0)
		begin := time.Now()
		runtime.GC()
		least = min(least, longest.Load()*100/int64(time.Since(begin)))
	}
	end.Store(1)
	runtime.KeepAlive(heap)
	fmt.Println(least)
}
