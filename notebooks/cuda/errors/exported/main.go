// Command exported has a function that C calls: what //export is for.
package main

/*
int twice(int number);

static int through_c(int number) { return twice(number); }
*/
import "C"

import "fmt"

//export twice
func twice(number C.int) C.int { return 2 * number }

func main() { fmt.Println(C.through_c(21)) }
