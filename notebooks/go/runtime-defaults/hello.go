// Command hello is the smallest program whose binary says how it was built.
package main

// double is small enough for the compiler to inline it.
func double(n int) int { return 2 * n }

func main() {
	println("hello", double(21))
}
