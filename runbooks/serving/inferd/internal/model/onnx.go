package model

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"noble-runbooks/inferd/internal/oip"
)

// Runtime is the ONNX Runtime of this process. There is one: the library keeps its state in globals.
type Runtime struct{}

// OpenRuntime loads the shared library at path, once a process.
func OpenRuntime(path string) (*Runtime, error) {
	ort.SetSharedLibraryPath(path)
	// Its own log goes to standard error in a form of its own, and repeats what its errors say.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return nil, fmt.Errorf("ONNX Runtime cannot be loaded from %s: %w", path, err)
	}
	return &Runtime{}, nil
}

// Version is the library's own.
func (*Runtime) Version() string { return ort.GetVersion() }

// Close unloads the library, when no model of it is open any more.
func (*Runtime) Close() error { return ort.DestroyEnvironment() }

// Provider is what executes a model.
type Provider string

// The providers that inferd can ask for.
const (
	CPU  Provider = "cpu"
	CUDA Provider = "cuda"
)

// Options say how a model is executed.
type Options struct {
	Provider Provider
	// Threads is how many a run uses, 0 for as many as there are processors.
	Threads int
}

type onnx struct {
	session   *ort.DynamicAdvancedSession
	signature Signature
}

// Load reads an ONNX file. It fails if a part of the model would run on another provider than the one
// that was asked for: a request for CUDA that ends on the CPU is an outage that nobody sees.
func (*Runtime) Load(path string, options Options) (Model, error) {
	inputs, outputs, err := ort.GetInputOutputInfo(path)
	if err != nil {
		return nil, fmt.Errorf("model %s cannot be read: %w", path, err)
	}
	m := &onnx{signature: Signature{Platform: "onnxruntime_onnx"}}
	if m.signature.Inputs, err = ports(inputs); err != nil {
		return nil, fmt.Errorf("model %s: %w", path, err)
	}
	if m.signature.Outputs, err = ports(outputs); err != nil {
		return nil, fmt.Errorf("model %s: %w", path, err)
	}
	chosen, err := sessionOptions(options)
	if err != nil {
		return nil, err
	}
	defer chosen.Destroy()
	m.session, err = ort.NewDynamicAdvancedSession(
		path, nameList(m.signature.Inputs), nameList(m.signature.Outputs), chosen)
	if err != nil {
		return nil, fmt.Errorf("model %s cannot be loaded for %s: %w", path, options.Provider, err)
	}
	return m, nil
}

func sessionOptions(options Options) (*ort.SessionOptions, error) {
	settings, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		settings.SetIntraOpNumThreads(options.Threads),
		// A worker that spins while it waits takes the processor from the requests that are read.
		settings.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
	)
	if options.Provider == CUDA {
		err = errors.Join(err, cuda(settings))
	}
	if err != nil {
		return nil, errors.Join(err, settings.Destroy())
	}
	return settings, nil
}

func cuda(settings *ort.SessionOptions) error {
	options, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return fmt.Errorf("this ONNX Runtime has no CUDA provider; install its GPU build: %w", err)
	}
	defer options.Destroy()
	if err := settings.AppendExecutionProviderCUDA(options); err != nil {
		return fmt.Errorf("the CUDA provider cannot be loaded: %w", err)
	}
	return settings.AddSessionConfigEntry("session.disable_cpu_ep_fallback", "1")
}

func (m *onnx) Signature() *Signature { return &m.signature }

func (m *onnx) Close() error { return m.session.Destroy() }

// Run hands the inputs' own bytes to the runtime. They are pinned meanwhile: an OrtValue holds on to
// the address beyond the call that makes it, which cgo's rules allow for pinned memory alone.
func (m *onnx) Run(ctx context.Context, inputs []oip.Tensor) ([]oip.Tensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	var pinned runtime.Pinner
	defer pinned.Unpin()
	values := make([]ort.Value, len(inputs))
	defer func() { destroy(values) }()
	for index, input := range inputs {
		value, err := toValue(&input, &pinned)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", input.Name, err)
		}
		values[index] = value
	}
	options, err := ort.NewRunOptions()
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		// It can only fail on options that were destroyed, which waits for this.
		_ = options.Terminate()
	})
	results := make([]ort.Value, len(m.signature.Outputs)) // the runtime allocates them
	defer func() { destroy(results) }()
	err = m.session.RunWithOptions(values, results, options)
	if !stop() {
		<-stopped
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	outputs := make([]oip.Tensor, len(results))
	for index, result := range results {
		if outputs[index], err = fromValue(m.signature.Outputs[index], result); err != nil {
			return nil, err
		}
	}
	return outputs, nil
}

// element is what joins a type of the protocol with the runtime's.
type element struct {
	datatype oip.Datatype
	value    func(shape []int64, raw []byte) (ort.Value, error)
	raw      func(value ort.Value) ([]byte, bool)
}

func typed[T ort.TensorData](datatype oip.Datatype) element {
	var one T
	size := int(unsafe.Sizeof(one))
	return element{
		datatype: datatype,
		value: func(shape []int64, raw []byte) (ort.Value, error) {
			data := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(raw))), len(raw)/size)
			return ort.NewTensor(shape, data)
		},
		raw: func(value ort.Value) ([]byte, bool) {
			tensor, ok := value.(*ort.Tensor[T])
			if !ok {
				return nil, false
			}
			data := tensor.GetData()
			return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(data))), len(data)*size), true
		},
	}
}

// custom is for the types that Go has no number for.
func custom(datatype oip.Datatype, ortType ort.TensorElementDataType) element {
	return element{
		datatype: datatype,
		value: func(shape []int64, raw []byte) (ort.Value, error) {
			return ort.NewCustomDataTensor(shape, raw, ortType)
		},
		raw: func(value ort.Value) ([]byte, bool) {
			tensor, ok := value.(*ort.CustomDataTensor)
			if !ok {
				return nil, false
			}
			return tensor.GetData(), true
		},
	}
}

var elements = map[ort.TensorElementDataType]element{
	ort.TensorElementDataTypeUint8:   typed[uint8](oip.Uint8),
	ort.TensorElementDataTypeUint16:  typed[uint16](oip.Uint16),
	ort.TensorElementDataTypeUint32:  typed[uint32](oip.Uint32),
	ort.TensorElementDataTypeUint64:  typed[uint64](oip.Uint64),
	ort.TensorElementDataTypeInt8:    typed[int8](oip.Int8),
	ort.TensorElementDataTypeInt16:   typed[int16](oip.Int16),
	ort.TensorElementDataTypeInt32:   typed[int32](oip.Int32),
	ort.TensorElementDataTypeInt64:   typed[int64](oip.Int64),
	ort.TensorElementDataTypeFloat:   typed[float32](oip.FP32),
	ort.TensorElementDataTypeDouble:  typed[float64](oip.FP64),
	ort.TensorElementDataTypeBool:    typed[bool](oip.Bool),
	ort.TensorElementDataTypeFloat16: custom(oip.FP16, ort.TensorElementDataTypeFloat16),
}

var datatypes = func() map[oip.Datatype]element {
	found := map[oip.Datatype]element{}
	for _, e := range elements {
		found[e.datatype] = e
	}
	return found
}()

func byDatatype(datatype oip.Datatype) element {
	e, ok := datatypes[datatype]
	if !ok {
		panic("no port has a datatype that ports() did not let in: " + string(datatype))
	}
	return e
}

func ports(infos []ort.InputOutputInfo) ([]Port, error) {
	found := make([]Port, len(infos))
	for index, info := range infos {
		e, ok := elements[info.DataType]
		if info.OrtValueType != ort.ONNXTypeTensor || !ok || len(info.Dimensions) == 0 {
			return nil, fmt.Errorf("%q is a %s of %s with %d dimensions, which inferd does not serve",
				info.Name, info.OrtValueType, info.DataType, len(info.Dimensions))
		}
		found[index] = Port{Name: info.Name, Datatype: e.datatype, Shape: info.Dimensions}
	}
	return found, nil
}

// toValue makes the runtime's view of a tensor. The elements' address must be a multiple of their
// size, which binary data out of the middle of a body need not have.
func toValue(tensor *oip.Tensor, pinned *runtime.Pinner) (ort.Value, error) {
	raw := tensor.Raw
	if len(raw) > 0 {
		if uintptr(unsafe.Pointer(&raw[0]))%uintptr(tensor.Datatype.Size()) != 0 {
			words := make([]uint64, (len(raw)+7)/8)
			aligned := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(raw))
			copy(aligned, raw)
			raw = aligned
		}
		pinned.Pin(&raw[0])
	}
	return byDatatype(tensor.Datatype).value(tensor.Shape, raw)
}

// fromValue takes over an output. The binding has copied it out of the runtime's memory into Go's.
func fromValue(port Port, value ort.Value) (oip.Tensor, error) {
	raw, ok := byDatatype(port.Datatype).raw(value)
	if !ok {
		return oip.Tensor{}, fmt.Errorf("output %q is a %T, not %s", port.Name, value, port.Datatype)
	}
	return oip.Tensor{
		Name: port.Name, Datatype: port.Datatype,
		Shape: slices.Clone([]int64(value.GetShape())), Raw: raw,
	}, nil
}

func destroy(values []ort.Value) {
	for _, value := range values {
		if value != nil {
			_ = value.Destroy() // fails only for what was destroyed before
		}
	}
}

func nameList(ports []Port) []string {
	list := make([]string, len(ports))
	for index, port := range ports {
		list[index] = port.Name
	}
	return list
}
