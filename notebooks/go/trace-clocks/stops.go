// Collects a large heap five times while a goroutine looks at the clock, and says how much of a
// collection was the goroutine's longest wait: the median, in percent.
package main

import (
	"fmt"
	"runtime"
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
	for range [5]int{} {
		longest.Store(0)
		begin := time.Now()
		runtime.GC()
		shares = append(shares, longest.Load()*100/int64(time.Since(begin)))
	}
	end.Store(1)
	runtime.KeepAlive(heap)
	sort.Slice(shares, func(i, j int) bool { return shares[i] < shares[j] })
	fmt.Println(shares[2])
}
