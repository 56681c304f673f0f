// Kinds decodes the manifest of an older job into the newer type, and says how many workers it finds.
package main

import (
	"encoding/json"
	"fmt"
	"log"

	v1 "example.org/named/kinds/v1"
)

func main() {
	log.SetFlags(0)
	var job v1.Job
	manifest := []byte(`{"apiVersion": "kubeflow.org/v1alpha2", "replicas": 4}`)
	if err := json.Unmarshal(manifest, &job); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d workers, no error\n", job.APIVersion, job.Workers)
}
