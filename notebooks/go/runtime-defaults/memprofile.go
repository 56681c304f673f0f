// Command memprofile allocates a known number of objects under runtime/pprof and prints how long
// that took and how many of the objects its heap profile holds.
package main

import (
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"time"
)

const objects = 1 << 18

var sink *[64]byte

func main() {
	rate := flag.Int("rate", runtime.MemProfileRate, "runtime.MemProfileRate")
	flag.Parse()
	runtime.MemProfileRate = *rate

	start := time.Now()
	for i := 0; i < objects; i++ {
		sink = new([64]byte)
	}
	took := time.Since(start)

	runtime.GC()
	records := make([]runtime.MemProfileRecord, 4096)
	n, _ := runtime.MemProfile(records, true)
	var recorded int64
	for _, record := range records[:n] {
		recorded += record.AllocObjects
	}
	if err := pprof.WriteHeapProfile(io.Discard); err != nil {
		panic(err)
	}
	fmt.Printf("rate %d: %d of %d objects recorded, %.1f ns each\n",
		*rate, recorded, objects, float64(took.Nanoseconds())/objects)
}
