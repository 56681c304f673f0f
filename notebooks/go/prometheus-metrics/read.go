// Reads every metric of the runtime once, between two lines on standard output.
package main

import (
	"fmt"
	"os"
	"runtime/metrics"
)

func main() {
	all := metrics.All()
	samples := make([]metrics.Sample, len(all))
	for i := range all {
		samples[i].Name = all[i].Name
	}
	os.Stdout.WriteString("begin\n")
	metrics.Read(samples)
	os.Stdout.WriteString("end\n")

	for _, sample := range samples {
		if sample.Value.Kind() != metrics.KindBad {
			fmt.Println(sample.Name)
		}
	}
}
