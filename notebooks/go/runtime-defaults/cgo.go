// Command cgo calls a C function: without a C compiler and cgo it cannot be built.
package main

// static int answer(void) { return 42; }
import "C"
import "fmt"

func main() {
	fmt.Println("C says", C.answer())
}
