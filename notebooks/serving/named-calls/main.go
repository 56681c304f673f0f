// Called shows what commands say of a program: called collect|profile, or called failures|serve WAY
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
		log.Fatal("usage: called collect|profile, or called failures|serve WAY")
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
	case "profile":
		var text strings.Builder
		if err := pprof.Lookup("heap").WriteTo(&text, 1); err != nil {
			log.Fatal(err)
		}
		first, _, _ := strings.Cut(text.String(), "\n")
		fmt.Println(first)
	default:
		log.Fatalf("%s is none of collect, profile, failures and serve", os.Args[1])
	}
}
