// Package model is what a batcher runs: a trained model in some runtime.
package model

import (
	"context"
	"fmt"
	"slices"

	"noble-runbooks/inferd/internal/oip"
)

// Model runs one batch at a time for each caller. Implementations may be called from several goroutines.
type Model interface {
	Signature() *Signature
	// Run reads the inputs, in the signature's order, and returns the outputs in its order. It neither
	// changes the inputs nor keeps them; the outputs are the caller's. When ctx ends, so does the run.
	Run(ctx context.Context, inputs []oip.Tensor) ([]oip.Tensor, error)
	Close() error
}

// Port is an input or output of a model; a dimension of -1 is one that the request chooses.
type Port struct {
	Name     string       `json:"name"`
	Datatype oip.Datatype `json:"datatype"`
	Shape    []int64      `json:"shape"`
}

// Signature is what a model takes and gives.
type Signature struct {
	Platform string
	Inputs   []Port
	Outputs  []Port
}

// Batches says whether requests can be put together along the first dimension.
func (s *Signature) Batches() bool {
	fixed := func(port Port) bool { return len(port.Shape) == 0 || port.Shape[0] != -1 }
	return !slices.ContainsFunc(s.Inputs, fixed) && !slices.ContainsFunc(s.Outputs, fixed)
}

// Equal says whether clients of one can use the other.
func (s *Signature) Equal(other *Signature) bool {
	same := func(a, b Port) bool {
		return a.Name == b.Name && a.Datatype == b.Datatype && slices.Equal(a.Shape, b.Shape)
	}
	return slices.EqualFunc(s.Inputs, other.Inputs, same) &&
		slices.EqualFunc(s.Outputs, other.Outputs, same)
}

// Arrange checks what a request brings against the signature and returns it in the signature's order.
func (s *Signature) Arrange(sent []oip.Tensor) ([]oip.Tensor, error) {
	arranged := make([]oip.Tensor, len(s.Inputs))
	seen := make([]bool, len(s.Inputs))
	for _, tensor := range sent {
		index := slices.IndexFunc(s.Inputs, func(port Port) bool { return port.Name == tensor.Name })
		if index < 0 {
			return nil, fmt.Errorf("there is no input %q; the model takes %s", tensor.Name, names(s.Inputs))
		}
		if seen[index] {
			return nil, fmt.Errorf("input %q is sent twice", tensor.Name)
		}
		if err := s.Inputs[index].check(&tensor); err != nil {
			return nil, err
		}
		arranged[index], seen[index] = tensor, true
	}
	if index := slices.Index(seen, false); index >= 0 {
		return nil, fmt.Errorf("input %q is missing; the model takes %s", s.Inputs[index].Name, names(s.Inputs))
	}
	if s.Batches() {
		for index := range arranged {
			rows := arranged[index].Shape[0]
			if rows == 0 {
				return nil, fmt.Errorf("input %q has no rows; send at least 1", arranged[index].Name)
			}
			if rows != arranged[0].Shape[0] {
				return nil, fmt.Errorf("input %q has %d rows, input %q has %d; each needs the same",
					arranged[index].Name, rows, arranged[0].Name, arranged[0].Shape[0])
			}
		}
	}
	return arranged, nil
}

// Choose returns the outputs that a request wants, in its order; all if it named none.
func (s *Signature) Choose(outputs []oip.Tensor, wanted []oip.Wanted) []oip.Tensor {
	var chosen []oip.Tensor
	for _, want := range wanted {
		for _, output := range outputs {
			if output.Name == want.Name {
				chosen = append(chosen, output)
			}
		}
	}
	if chosen == nil {
		return outputs
	}
	return chosen
}

// CheckWanted fails on an output that the model does not give.
func (s *Signature) CheckWanted(wanted []oip.Wanted) error {
	for _, want := range wanted {
		if want.Name != "" && !slices.ContainsFunc(s.Outputs, func(p Port) bool { return p.Name == want.Name }) {
			return fmt.Errorf("there is no output %q; the model gives %s", want.Name, names(s.Outputs))
		}
	}
	return nil
}

func (p Port) check(tensor *oip.Tensor) error {
	if tensor.Datatype != p.Datatype {
		return fmt.Errorf("input %q is %s; the model takes %s", p.Name, tensor.Datatype, p.Datatype)
	}
	fits := len(tensor.Shape) == len(p.Shape)
	for index := 0; fits && index < len(p.Shape); index++ {
		fits = p.Shape[index] == -1 || p.Shape[index] == tensor.Shape[index]
	}
	if !fits {
		return fmt.Errorf("input %q has shape %v; the model takes %v (-1: any)", p.Name, tensor.Shape, p.Shape)
	}
	return tensor.Finite()
}

func names(ports []Port) string {
	text := ""
	for index, port := range ports {
		if index > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%q", port.Name)
	}
	return text
}
