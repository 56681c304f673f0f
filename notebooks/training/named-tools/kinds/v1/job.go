// Package v1 has a job as its second version has it.
package v1

// Job runs Workers processes.
type Job struct {
	APIVersion string `json:"apiVersion"`
	Workers    int    `json:"workers"`
}
