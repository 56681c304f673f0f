package oip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// HeaderLength names the header that says how much of a body is JSON; binary data follows it.
const HeaderLength = "Inference-Header-Content-Length"

// Request is what a client asks of a model.
type Request struct {
	ID     string
	Inputs []Tensor
	// Outputs are those that the client wants, in its order; empty for all.
	Outputs []Wanted
	// TimeoutMicros is how long the client will wait, in microseconds; 0 if it did not say.
	TimeoutMicros int64
}

// Wanted is an output that the client asks for.
type Wanted struct {
	Name   string
	Binary bool
}

// Response is what a model answered.
type Response struct {
	Model, Version, ID string
	Outputs            []Tensor
}

type wireParameters struct {
	BinaryDataSize   *int64 `json:"binary_data_size"`
	BinaryData       *bool  `json:"binary_data"`
	BinaryDataOutput bool   `json:"binary_data_output"`
	Timeout          *int64 `json:"timeout"`
}

type wireInput struct {
	Name       string          `json:"name"`
	Shape      []int64         `json:"shape"`
	Datatype   Datatype        `json:"datatype"`
	Parameters wireParameters  `json:"parameters"`
	Data       json.RawMessage `json:"data"`
}

type wireRequest struct {
	ID         string         `json:"id"`
	Parameters wireParameters `json:"parameters"`
	Inputs     []wireInput    `json:"inputs"`
	Outputs    []struct {
		Name       string         `json:"name"`
		Parameters wireParameters `json:"parameters"`
	} `json:"outputs"`
}

// ParseRequest reads a body. headerLength is the value of [HeaderLength], empty if it was not sent.
// What is wrong with a body is said for who wrote it.
func ParseRequest(body []byte, headerLength string) (*Request, error) {
	text, binaryData := body, []byte(nil)
	if headerLength != "" {
		length, err := strconv.ParseInt(headerLength, 10, 64)
		if err != nil || length < 0 || length > int64(len(body)) {
			return nil, fmt.Errorf("header %s is %q, but the body has %d bytes",
				HeaderLength, headerLength, len(body))
		}
		text, binaryData = body[:length], body[length:]
	}
	var wire wireRequest
	if json.Unmarshal(text, &wire) != nil {
		wire = wireRequest{}
		if err := decode(text, &wire); err != nil {
			return nil, err
		}
	}
	if len(wire.Inputs) == 0 {
		return nil, errors.New("the request has no inputs")
	}
	request := &Request{ID: wire.ID}
	if timeout := wire.Parameters.Timeout; timeout != nil {
		if *timeout <= 0 {
			return nil, fmt.Errorf("parameter timeout is %d; it is in microseconds and above 0", *timeout)
		}
		request.TimeoutMicros = *timeout
	}
	for index := range wire.Inputs {
		tensor, rest, err := wire.Inputs[index].tensor(binaryData)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", wire.Inputs[index].Name, err)
		}
		request.Inputs, binaryData = append(request.Inputs, tensor), rest
	}
	if len(binaryData) > 0 {
		return nil, fmt.Errorf("%d bytes of binary data are no input's", len(binaryData))
	}
	for _, output := range wire.Outputs {
		wanted := Wanted{Name: output.Name, Binary: wire.Parameters.BinaryDataOutput}
		if own := output.Parameters.BinaryData; own != nil {
			wanted.Binary = *own // what is said of one output goes before what is said of all
		}
		request.Outputs = append(request.Outputs, wanted)
	}
	if len(request.Outputs) == 0 && wire.Parameters.BinaryDataOutput {
		request.Outputs = []Wanted{{Binary: true}}
	}
	return request, nil
}

// decode reads one JSON value and nothing behind it, like [json.Unmarshal]. It takes longer, and knows more of
// what is wrong.
func decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	err := decoder.Decode(into)
	if err == nil {
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("the body goes on behind its JSON, at byte %d; binary data needs the header %s",
				decoder.InputOffset(), HeaderLength)
		}
		return nil
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("the body is not JSON: %s, at byte %d", syntax, syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("member %q of the body is a %s, not a %s", kind.Field, kind.Value, kind.Type)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the body ends before its JSON does")
	}
	return fmt.Errorf("the body cannot be read: %w", err)
}

// tensor makes the tensor of an input, and says what of the binary data is left.
func (w *wireInput) tensor(binaryData []byte) (Tensor, []byte, error) {
	tensor := Tensor{Name: w.Name, Datatype: w.Datatype, Shape: w.Shape}
	if w.Datatype.Size() == 0 {
		return tensor, nil, fmt.Errorf("datatype %q is not served; served are %v", w.Datatype, served())
	}
	if w.Shape == nil {
		return tensor, nil, errors.New("there is no shape")
	}
	size := w.Parameters.BinaryDataSize
	if size == nil {
		if w.Data == nil {
			return tensor, nil, errors.New("there is no data")
		}
		raw, err := parseData(w.Data, w.Datatype, w.Shape)
		tensor.Raw = raw
		return tensor, binaryData, err
	}
	if w.Data != nil {
		return tensor, nil, errors.New("there is both data and binary_data_size")
	}
	if *size < 0 || *size > int64(len(binaryData)) {
		return tensor, nil, fmt.Errorf("binary_data_size is %d, but %d bytes of binary data are left",
			*size, len(binaryData))
	}
	tensor.Raw = binaryData[:*size:*size]
	return tensor, binaryData[*size:], tensor.Check()
}

type wireOutput struct {
	Name       string          `json:"name"`
	Datatype   Datatype        `json:"datatype"`
	Shape      []int64         `json:"shape"`
	Parameters map[string]int  `json:"parameters,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
}

// Encode makes the body of a response: JSON, and behind it the outputs that are wanted as binary data.
// jsonLength is the length of the JSON if there are any, else 0.
func (r *Response) Encode(wanted []Wanted) (body []byte, jsonLength int, err error) {
	binary := map[string]bool{}
	for _, output := range wanted {
		binary[output.Name] = output.Binary
	}
	wire := struct {
		Model   string       `json:"model_name"`
		Version string       `json:"model_version"`
		ID      string       `json:"id,omitempty"`
		Outputs []wireOutput `json:"outputs"`
	}{Model: r.Model, Version: r.Version, ID: r.ID, Outputs: make([]wireOutput, len(r.Outputs))}
	var behind []byte
	for index := range r.Outputs {
		tensor := &r.Outputs[index]
		output := wireOutput{Name: tensor.Name, Datatype: tensor.Datatype, Shape: tensor.Shape}
		if binary[tensor.Name] || binary[""] {
			output.Parameters = map[string]int{"binary_data_size": len(tensor.Raw)}
			behind = append(behind, tensor.Raw...)
		} else if output.Data, err = appendData(nil, tensor); err != nil {
			return nil, 0, err
		}
		wire.Outputs[index] = output
	}
	body, err = json.Marshal(wire)
	if err != nil {
		return nil, 0, err
	}
	if behind == nil {
		return body, 0, nil
	}
	return append(body, behind...), len(body), nil
}
