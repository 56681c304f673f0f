//go:build cgo

package main

/*
// The headers of glibc 2.38 and later make this call __isoc23_strtol, which reads binary numbers and
// which no earlier glibc has.
#define _GNU_SOURCE
#include <stdlib.h>
*/
import "C"

import "unsafe"

func parse(text string) (by string, number int) {
	s := C.CString(text)
	defer C.free(unsafe.Pointer(s))
	return "C", int(C.strtol(s, nil, 0))
}
