// Command maps adds memory maps to itself until the kernel refuses one, and says how many it had and
// what the refusal was. With -allocate it then needs heap, which the runtime has to map as well.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"syscall"
)

var heap []byte // here, so that the allocation is not optimised away

func main() {
	log.SetFlags(0)
	allocate := flag.Bool("allocate", false, "allocate 1 GiB once the limit is reached")
	flag.Parse()

	before, err := count(make([]byte, 1<<16))
	if err != nil {
		log.Fatal(err)
	}
	added, refused := fill()
	if *allocate {
		heap = make([]byte, 1<<30)
	}
	var errno syscall.Errno
	errors.As(refused, &errno)
	fmt.Printf("%d maps, then mmap: %v (errno %d)\n", before+added, refused, errno)
}

// fill maps single pages until that fails. Neighbours have different rights, or the kernel would
// make one map of them.
func fill() (added int, refused error) {
	for {
		_, err := syscall.Mmap(-1, 0, os.Getpagesize(), added%2*syscall.PROT_READ, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			return added, err
		}
		added++
	}
}

// count is the number of this process's maps; there are few before fill.
func count(buffer []byte) (int, error) {
	file, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	read, err := file.Read(buffer)
	return bytes.Count(buffer[:read], []byte("\n")), err
}
