// Answer has one line of C, so that it takes cgo.
package main

// static int answer(void) { return 42; }
import "C"

import "fmt"

func main() { fmt.Println("C says", C.answer()) }
