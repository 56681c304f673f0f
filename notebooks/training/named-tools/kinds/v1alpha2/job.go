// Package v1alpha2 has a job as its first version had it.
package v1alpha2

// Job runs Replicas processes.
type Job struct {
	APIVersion string `json:"apiVersion"`
	Replicas   int    `json:"replicas"`
}
