// Command nocgo calls a function of CUDA's runtime, whose library it is given, and has no C in it.
package main

import (
	"fmt"
	"os"

	"github.com/ebitengine/purego"
)

func main() {
	library, err := purego.Dlopen(os.Args[1], purego.RTLD_NOW)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var version func(number *int32) int32
	purego.RegisterLibFunc(&version, library, "cudaRuntimeGetVersion")
	var number int32
	status := version(&number)
	fmt.Printf("status %d, version %d\n", status, number)
}
