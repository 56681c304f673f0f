// Asks the runtime for the metrics that its arguments name.
package main

import (
	"fmt"
	"os"
	"runtime/metrics"
)

func main() {
	for _, name := range os.Args[1:] {
		sample := []metrics.Sample{{Name: name}}
		metrics.Read(sample)
		if sample[0].Value.Kind() == metrics.KindBad {
			fmt.Println(name, "is unknown")
		} else {
			fmt.Println(name, "is known")
		}
	}
}
