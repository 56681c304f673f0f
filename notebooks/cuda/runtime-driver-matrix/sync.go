// Calls the driver through cgo, as the Go bindings do, and says what it answers.
package main

/*
int cuStreamSynchronize(void *stream);
*/
import "C"

import "fmt"

func main() {
	fmt.Println("cuStreamSynchronize answers", C.cuStreamSynchronize(nil))
}
