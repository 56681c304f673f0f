// Reads every metric of the runtime once, between two lines on standard output. Then it names the
// metrics that have a value, and gives the value of the two that limits can change.
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
		switch sample.Name {
		case "/sched/gomaxprocs:threads", "/gc/gomemlimit:bytes":
			fmt.Println(sample.Name, sample.Value.Uint64())
		default:
			if sample.Value.Kind() != metrics.KindBad {
				fmt.Println(sample.Name)
			}
		}
	}
}
