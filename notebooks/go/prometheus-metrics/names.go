// Calls metrics.Read as the post does: a list of names in, values out.
package main

import "runtime/metrics"

func main() {
	names := []string{"/memory/classes/heap/objects:bytes"}
	values := metrics.Read(names)
	println(len(values))
}
