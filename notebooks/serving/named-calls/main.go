// Called shows what commands say of a program: called collect|profile, or called failures|serve WAY, or called heap FILE
package main

import (
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: called collect|profile, or called failures|serve WAY, or called heap FILE")
	}
	switch os.Args[1] {
	case "failures":
		if err := failures(os.Args[2]); err != nil {
			log.Fatal(err)
		}
	case "serve":
		if err := serve(os.Args[2]); err != nil {
			log.Fatal(err)
		}
	case "collect":
		for range 3 {
			runtime.GC()
		}
	case "heap":
		if err := keep(os.Args[2]); err != nil {
			log.Fatal(err)
		}
	case "profile":
		var text strings.Builder
		if err := pprof.Lookup("heap").WriteTo(&text, 1); err != nil {
			log.Fatal(err)
		}
		first, _, _ := strings.Cut(text.String(), "\n")
		fmt.Println(first)
	default:
		log.Fatalf("%s is none of collect, profile, heap, failures and serve", os.Args[1])
	}
}

// keep allocates at two moments, and writes the heap's profile as it is stored.
func keep(name string) error {
	early := make([]byte, 1<<20)
	runtime.GC()
	late := make([]byte, 1<<21)
	runtime.GC()
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := pprof.Lookup("heap").WriteTo(file, 0); err != nil {
		return err
	}
	runtime.KeepAlive(early)
	runtime.KeepAlive(late)
	return file.Close()
}
