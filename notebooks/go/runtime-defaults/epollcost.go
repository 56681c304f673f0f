// Command epollcost prints what one epoll_pwait and one epoll_pwait2 cost on a descriptor that is
// ready, in nanoseconds, and their ratio. Short rounds of both follow each other, and the median of the
// ratios counts: what else the machine does meets both.
package main

import (
	"fmt"
	"log"
	"runtime"
	"sort"
	"syscall"
	"time"
	"unsafe"
)

const (
	pwait2 = 441 // the same number on every architecture; package syscall has no name for it
	calls  = 500
	rounds = 2001
)

func main() {
	runtime.LockOSThread()
	poller, err := syscall.EpollCreate1(0)
	if err != nil {
		log.Fatal(err)
	}
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		log.Fatal(err)
	}
	ready := syscall.EpollEvent{Events: syscall.EPOLLOUT}
	if err := syscall.EpollCtl(poller, syscall.EPOLL_CTL_ADD, pipe[1], &ready); err != nil {
		log.Fatal(err)
	}
	events := make([]syscall.EpollEvent, 8)
	var limit syscall.Timespec
	limit.Sec = 1

	var old, new, ratios []float64
	for i := 0; i < rounds; i++ {
		first := timed(func() syscall.Errno {
			_, _, e := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(poller),
				uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 1000, 0, 0)
			return e
		})
		second := timed(func() syscall.Errno {
			_, _, e := syscall.Syscall6(pwait2, uintptr(poller),
				uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
				uintptr(unsafe.Pointer(&limit)), 0, 0)
			return e
		})
		old, new, ratios = append(old, first), append(new, second), append(ratios, second/first)
	}
	fmt.Printf("epoll_pwait  %.0f ns\nepoll_pwait2 %.0f ns\nratio %.2f\n",
		median(old), median(new), median(ratios))
}

// timed is what one call cost in a round, in nanoseconds.
func timed(call func() syscall.Errno) float64 {
	start := time.Now()
	for i := 0; i < calls; i++ {
		if e := call(); e != 0 {
			log.Fatal(e)
		}
	}
	return float64(time.Since(start).Nanoseconds()) / calls
}

func median(values []float64) float64 {
	sort.Float64s(values)
	return values[len(values)/2]
}
