//go:build !cgo

package main

import "strconv"

// What takes the place of the C code where there is no cgo; without it nothing could be built there.
func parse(text string) (by string, number int) {
	n, err := strconv.ParseInt(text, 0, strconv.IntSize)
	if err != nil {
		return "Go", 0
	}
	return "Go", int(n)
}
