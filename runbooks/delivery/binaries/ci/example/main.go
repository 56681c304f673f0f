// Hello says what it was built for, and by what its sum was computed: by C where the build has cgo.
package main

import (
	"fmt"
	"runtime"
)

func main() {
	by, total := sum(40, 2)
	fmt.Printf("hello from %s/%s: %d, added by %s\n", runtime.GOOS, runtime.GOARCH, total, by)
}
