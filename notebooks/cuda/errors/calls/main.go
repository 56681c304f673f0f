// Command calls tries what is said of calls from Go to C.
package main

/*
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *hold(size_t size) { return memset(malloc(size), 7, size); }

static void *reserve(size_t size) { return malloc(size); } // cgo's own C.malloc ends the program instead

static size_t held(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static int wait_for(int fd)
{
    char byte = 0;
    return read(fd, &byte, 1) == 1 ? byte : -1;
}

static int32_t sum(const char *text, int32_t *number, void *place, size_t size)
{
    memset(place, *number, size);
    return *number + (int32_t)strlen(text);
}
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"
)

const (
	size = 64 << 20
	wait = 60 * time.Millisecond
)

func main() {
	before, after, freed := memory()
	milliseconds, got := longCall()
	sum, filled := types()
	// JSON by hand: its package is not among those that CI has compiled.
	fmt.Printf(`{"HeldBefore": %d, "HeldAfterCollection": %d, "HeldAfterFree": %d, `, before, after, freed)
	fmt.Printf(`"CallMilliseconds": %d, "Byte": %d, `, milliseconds, got)
	fmt.Printf(`"Sum": %d, "Filled": %t, "SumWithThreeGiB": %d}`+"\n", sum, filled, withMuch())
}

// memory has C allocate what only a number in Go remembers, so that Go's collector sees no pointer to it.
func memory() (before, after, freed uint64) {
	place := uintptr(C.hold(size))
	before = uint64(C.held())
	for range 3 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	after = uint64(C.held())
	C.free(*(*unsafe.Pointer)(unsafe.Pointer(&place)))
	return before, after, uint64(C.held())
}

// longCall waits in C, with one processor, for a byte that another goroutine has to write.
func longCall() (milliseconds int64, got int) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	reader, writer, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	go func() {
		time.Sleep(wait)
		_, _ = writer.Write([]byte{42})
	}()
	begun := time.Now()
	got = int(C.wait_for(C.int(reader.Fd())))
	return time.Since(begun).Milliseconds(), got
}

func types() (int, bool) {
	text := C.CString("four")
	defer C.free(unsafe.Pointer(text))
	number := C.int32_t(38)
	place := make([]byte, 8)
	sum := C.sum(text, &number, unsafe.Pointer(&place[0]), C.size_t(len(place)))
	return int(sum), place[7] == 38
}

// withMuch calls C while C's heap has three GiB for this goroutine; 0: C had not so much.
func withMuch() int {
	much := C.reserve(3 << 30)
	if much == nil {
		return 0
	}
	defer C.free(much)
	sum, _ := types()
	return sum
}
