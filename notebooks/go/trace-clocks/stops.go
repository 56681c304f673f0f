// Collects a large heap nine times while a goroutine looks at the clock, and says how much of a
// collection was the goroutine's longest wait: the median, in percent. A collection ends where the
// runtime says so (LastGC): what runtime.GC does after it, with the program running, takes as long as
// a busy machine lets it.
package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sort"
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
	var shares []int64
	var stats debug.GCStats
	for range [9]int{} {
		longest.Store(0)
		begin := time.Now()
		runtime.GC()
		debug.ReadGCStats(&stats)
		shares = append(shares, longest.Load()*100/int64(stats.LastGC.Sub(begin)))
	}
	end.Store(1)
	runtime.KeepAlive(heap)
	sort.Slice(shares, func(i, j int) bool { return shares[i] < shares[j] })
	fmt.Println(shares[4])
}
