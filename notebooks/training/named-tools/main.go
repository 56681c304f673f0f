// Named counts what a slice costs that begins at a multiple of eight, in three ways.
package main

import (
	"fmt"
	"sync"
	"testing"
	"unsafe"
)

const size = 1 << 20 // a page of Parquet, as it is written by default

var page []byte // keeps a slice from living on the stack

// moved gives a slice of n bytes from eight more, so that it begins at a multiple of eight.
func moved(n int) []byte {
	more := make([]byte, n+8)
	skip := -uintptr(unsafe.Pointer(&more[0])) & 7
	return more[skip:][:n]
}

func main() {
	pool := sync.Pool{New: func() any { return new([size]byte) }}
	ways := map[string]func(){
		"make":  func() { page = make([]byte, size) },
		"moved": func() { page = moved(size) },
		"pool": func() {
			one := pool.Get().(*[size]byte)
			page = one[:]
			pool.Put(one)
		},
	}
	for _, way := range []string{"make", "moved", "pool"} {
		fmt.Printf("%s: %.0f allocations for each page\n", way, testing.AllocsPerRun(200, ways[way]))
	}
}
