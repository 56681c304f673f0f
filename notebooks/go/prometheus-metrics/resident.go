// Compares the heap that the runtime counts with the memory that the kernel counts, in MiB.
package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"syscall"
)

const size = 64 << 20

func report(when string) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	var kib int
	_, after, _ := bytes.Cut(status, []byte("RssAnon:"))
	fmt.Fscan(bytes.NewReader(after), &kib)
	fmt.Printf("%-22s heap %3d, resident %3d\n", when, sample[0].Value.Uint64()>>20, kib>>10)
}

func touch(memory []byte) {
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
}

func main() {
	report("at the start")
	memory := make([]byte, size)
	touch(memory)
	report("64 MiB on the heap")
	runtime.KeepAlive(memory)
	memory = nil
	runtime.GC()
	report("freed and collected")
	mapped, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	touch(mapped)
	report("64 MiB mapped outside")
}
