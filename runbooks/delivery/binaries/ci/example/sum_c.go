//go:build cgo

package main

// static int sum(int a, int b) { return a + b; }
import "C"

func sum(a, b int) (by string, total int) {
	return "C", int(C.sum(C.int(a), C.int(b)))
}
