// Called shows what commands say of a program: called collect|profile
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
	if len(os.Args) != 2 {
		log.Fatal("usage: called collect|profile")
	}
	switch os.Args[1] {
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
		log.Fatalf("%s is neither collect nor profile", os.Args[1])
	}
}
