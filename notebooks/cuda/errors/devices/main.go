// Command devices asks CUDA's runtime for cards, through cgo. Which library it is linked with says CGO_LDFLAGS.
package main

/*
int cudaGetDeviceCount(int *count);
const char *cudaGetErrorString(int status);
*/
import "C"

import (
	"fmt"
	"os"
)

const noDevice = 100

func main() {
	var count C.int
	status := C.cudaGetDeviceCount(&count)
	fmt.Printf("%d cards, status %d: %s\n", count, status, C.GoString(C.cudaGetErrorString(status)))
	if status != 0 && status != noDevice {
		os.Exit(1)
	}
}
