// A program with 20 goroutines that wait, which collects its garbage three times, and traces itself
// if it is told where to.
package main

import (
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/trace"
	"syscall"
	"time"
	"unsafe"
)

//go:linkname nanotime runtime.nanotime
func nanotime() int64

// clock reads one of the kernel's clocks, in nanoseconds.
func clock(id uintptr) int64 {
	var spec syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&spec)), 0); errno != 0 {
		log.Fatal(errno)
	}
	return spec.Nano()
}

func main() {
	const realtime, monotonic = 0, 1
	for range [20]int{} {
		go func() { select {} }()
	}
	before, now, after := clock(monotonic), nanotime(), clock(monotonic)
	fmt.Println("monotonic", before, "nanotime", now, "monotonic", after, "realtime", clock(realtime))
	if len(os.Args) > 1 {
		file, err := os.Create(os.Args[1])
		if err != nil {
			log.Fatal(err)
		}
		if err := trace.Start(file); err != nil {
			log.Fatal(err)
		}
		defer file.Close()
		defer trace.Stop()
	}
	for range [3]int{} {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	fmt.Println("monotonic", clock(monotonic))
}
