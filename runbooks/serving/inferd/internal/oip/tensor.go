// Package oip holds the tensors and the REST messages of the Open Inference Protocol, version 2.
package oip

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Datatype is the protocol's name of an element's type.
type Datatype string

// What inferd serves of the protocol's types. BYTES and BF16 are refused by name.
const (
	Bool   Datatype = "BOOL"
	Uint8  Datatype = "UINT8"
	Uint16 Datatype = "UINT16"
	Uint32 Datatype = "UINT32"
	Uint64 Datatype = "UINT64"
	Int8   Datatype = "INT8"
	Int16  Datatype = "INT16"
	Int32  Datatype = "INT32"
	Int64  Datatype = "INT64"
	FP16   Datatype = "FP16"
	FP32   Datatype = "FP32"
	FP64   Datatype = "FP64"
)

var sizes = map[Datatype]int{
	Bool: 1, Uint8: 1, Int8: 1,
	Uint16: 2, Int16: 2, FP16: 2,
	Uint32: 4, Int32: 4, FP32: 4,
	Uint64: 8, Int64: 8, FP64: 8,
}

// Size is an element's length in bytes, 0 for a type that is not served.
func (d Datatype) Size() int { return sizes[d] }

// Tensor is one input or output of a model.
type Tensor struct {
	Name     string
	Datatype Datatype
	Shape    []int64
	// Raw has the elements in row-major order, each little-endian.
	Raw []byte
}

// Elements is the product of a shape. It fails on a negative dimension and on an overflow.
func Elements(shape []int64) (int64, error) {
	product := int64(1)
	for _, size := range shape {
		if size < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		if size != 0 && product > math.MaxInt64/8/size {
			return 0, fmt.Errorf("shape %v has more elements than can be counted", shape)
		}
		product *= size
	}
	return product, nil
}

// Check says whether the tensor's bytes are as many as its shape and type ask for.
func (t *Tensor) Check() error {
	if t.Datatype.Size() == 0 {
		return fmt.Errorf("tensor %q has datatype %q, which is not served; served are %v",
			t.Name, t.Datatype, served())
	}
	elements, err := Elements(t.Shape)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	if want := elements * int64(t.Datatype.Size()); int64(len(t.Raw)) != want {
		return fmt.Errorf("tensor %q has %d bytes, but shape %v of %s takes %d",
			t.Name, len(t.Raw), t.Shape, t.Datatype, want)
	}
	if t.Datatype == Bool {
		for at, value := range t.Raw {
			if value > 1 {
				return fmt.Errorf("tensor %q has %d at element %d; a BOOL is 0 or 1", t.Name, value, at)
			}
		}
	}
	return nil
}

// Finite fails on the first element that is NaN or infinite. What a model makes of those is nobody's
// intention, and JSON cannot say them.
func (t *Tensor) Finite() error {
	switch t.Datatype {
	case FP16:
		for at := 0; at < len(t.Raw); at += 2 {
			if binary.LittleEndian.Uint16(t.Raw[at:])&0x7c00 == 0x7c00 {
				return t.notFinite(at / 2)
			}
		}
	case FP32:
		for at := 0; at < len(t.Raw); at += 4 {
			if binary.LittleEndian.Uint32(t.Raw[at:])&0x7f800000 == 0x7f800000 {
				return t.notFinite(at / 4)
			}
		}
	case FP64:
		for at := 0; at < len(t.Raw); at += 8 {
			if binary.LittleEndian.Uint64(t.Raw[at:])&0x7ff0000000000000 == 0x7ff0000000000000 {
				return t.notFinite(at / 8)
			}
		}
	}
	return nil
}

func (t *Tensor) notFinite(element int) error {
	return fmt.Errorf("tensor %q is not finite at element %d", t.Name, element)
}

func served() []Datatype {
	names := make([]Datatype, 0, len(sizes))
	for name := range sizes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
