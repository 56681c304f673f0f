// Command app doubles a number with the module beside it.
package main

import "example.com/lib"

func main() {
	n := lib.Double(21)
	println(n)
}
