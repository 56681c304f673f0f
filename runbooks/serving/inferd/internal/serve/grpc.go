package serve

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"noble-runbooks/inferd/internal/oip"
	pb "noble-runbooks/inferd/internal/oippb"
)

// GRPC is the server of the gRPC port.
func (s *Server) GRPC(options ...grpc.ServerOption) *grpc.Server {
	options = append(options, grpc.MaxRecvMsgSize(int(min(s.MaxBody, math.MaxInt32))),
		grpc.MaxSendMsgSize(math.MaxInt32))
	server := grpc.NewServer(options...)
	pb.RegisterGRPCInferenceServiceServer(server, &service{server: s})
	return server
}

type service struct {
	pb.UnimplementedGRPCInferenceServiceServer
	server *Server
}

func (g *service) ServerLive(context.Context, *pb.ServerLiveRequest) (*pb.ServerLiveResponse, error) {
	return &pb.ServerLiveResponse{Live: true}, nil
}

func (g *service) ServerReady(context.Context, *pb.ServerReadyRequest) (*pb.ServerReadyResponse, error) {
	return &pb.ServerReadyResponse{Ready: g.server.ready()}, nil
}

func (g *service) ModelReady(_ context.Context, r *pb.ModelReadyRequest) (*pb.ModelReadyResponse, error) {
	slot, err := g.server.slot(r.Name, r.Version)
	if err != nil {
		return nil, toStatus(err)
	}
	signature, _ := slot.Signature()
	return &pb.ModelReadyResponse{Ready: signature != nil && !g.server.draining.Load()}, nil
}

func (g *service) ServerMetadata(context.Context, *pb.ServerMetadataRequest) (*pb.ServerMetadataResponse, error) {
	return &pb.ServerMetadataResponse{
		Name: "inferd", Version: g.server.Version, Extensions: extensions,
	}, nil
}

func (g *service) ModelMetadata(_ context.Context, r *pb.ModelMetadataRequest) (*pb.ModelMetadataResponse, error) {
	slot, err := g.server.slot(r.Name, r.Version)
	if err != nil {
		return nil, toStatus(err)
	}
	signature, version := slot.Signature()
	if signature == nil {
		return nil, toStatus(errDown)
	}
	response := &pb.ModelMetadataResponse{
		Name: slot.Name, Versions: []string{version}, Platform: signature.Platform,
	}
	for _, port := range signature.Inputs {
		response.Inputs = append(response.Inputs, &pb.ModelMetadataResponse_TensorMetadata{
			Name: port.Name, Datatype: string(port.Datatype), Shape: port.Shape,
		})
	}
	for _, port := range signature.Outputs {
		response.Outputs = append(response.Outputs, &pb.ModelMetadataResponse_TensorMetadata{
			Name: port.Name, Datatype: string(port.Datatype), Shape: port.Shape,
		})
	}
	return response, nil
}

func (g *service) ModelInfer(ctx context.Context, r *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	began := time.Now()
	headers, _ := metadata.FromIncomingContext(ctx)
	ctx, span := g.server.Traces.Start(identified(ctx, first(headers, requestIDHeader)), carrier(headers),
		strings.TrimPrefix(pb.GRPCInferenceService_ModelInfer_FullMethodName, "/"),
		attribute.String("rpc.system.name", "grpc"))
	defer span.End()
	slot, err := g.server.slot(r.ModelName, r.ModelVersion)
	name := "" // a name that somebody made up must not become a label
	var response *pb.ModelInferResponse
	if err == nil {
		name = slot.Name
		response, err = g.infer(ctx, slot, r)
	}
	code, grpcCode := http.StatusOK, codes.OK
	if err != nil {
		code, grpcCode = status(err)
	}
	span.SetAttributes(attribute.String("rpc.response.status_code", grpcCode.String()))
	g.server.answered(ctx, name, "grpc", code, time.Since(began), err)
	if err != nil {
		return nil, toStatus(err)
	}
	return response, nil
}

func (g *service) infer(ctx context.Context, slot *Slot, r *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	request, err := fromMessage(r)
	if err != nil {
		return nil, &badRequest{err}
	}
	ctx, cancel := g.server.within(ctx, request)
	defer cancel()
	response, err := slot.Infer(ctx, request)
	if err != nil {
		return nil, err
	}
	message := &pb.ModelInferResponse{ModelName: response.Model, ModelVersion: response.Version, Id: response.ID}
	for _, output := range response.Outputs {
		message.Outputs = append(message.Outputs, &pb.ModelInferResponse_InferOutputTensor{
			Name: output.Name, Datatype: string(output.Datatype), Shape: output.Shape,
		})
		message.RawOutputContents = append(message.RawOutputContents, output.Raw)
	}
	return message, nil
}

func toStatus(err error) error {
	_, code := status(err)
	return grpcstatus.Error(code, err.Error())
}

func first(headers metadata.MD, key string) string {
	if values := headers.Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// carrier is a call's headers, as what reads a traceparent wants them.
type carrier metadata.MD

func (c carrier) Get(key string) string { return first(metadata.MD(c), key) }

func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

func (c carrier) Keys() []string { return slices.Collect(maps.Keys(c)) }

// fromMessage reads the tensors of a request, which stand either in it or raw behind it.
func fromMessage(r *pb.ModelInferRequest) (*oip.Request, error) {
	if len(r.Inputs) == 0 {
		return nil, fmt.Errorf("the request has no inputs")
	}
	raw := r.RawInputContents
	if len(raw) > 0 && len(raw) != len(r.Inputs) {
		return nil, fmt.Errorf("the request has %d inputs and %d raw contents", len(r.Inputs), len(raw))
	}
	request := &oip.Request{ID: r.Id}
	if timeout, ok := r.Parameters["timeout"]; ok {
		request.TimeoutMicros = timeout.GetInt64Param()
	}
	for index, input := range r.Inputs {
		tensor := oip.Tensor{
			Name: input.GetName(), Datatype: oip.Datatype(input.GetDatatype()), Shape: input.GetShape(),
		}
		if len(raw) == 0 {
			var err error
			if tensor.Raw, err = contents(tensor.Datatype, input.GetContents()); err != nil {
				return nil, fmt.Errorf("input %q: %w", tensor.Name, err)
			}
		} else if input.GetContents() != nil {
			return nil, fmt.Errorf("input %q has contents twice, in it and raw", input.GetName())
		} else {
			tensor.Raw = raw[index]
		}
		if err := tensor.Check(); err != nil {
			return nil, err
		}
		request.Inputs = append(request.Inputs, tensor)
	}
	for _, output := range r.Outputs {
		request.Outputs = append(request.Outputs, oip.Wanted{Name: output.GetName()})
	}
	return request, nil
}

// contents are a typed tensor's bytes. The protocol carries small integers in 32 bits.
func contents(datatype oip.Datatype, c *pb.InferTensorContents) ([]byte, error) {
	var raw []byte
	order := binary.LittleEndian
	size := datatype.Size()
	unused := 32 - 8*size
	switch datatype {
	case oip.Bool:
		for _, value := range c.GetBoolContents() {
			raw = append(raw, 0)
			if value {
				raw[len(raw)-1] = 1
			}
		}
	case oip.Int8, oip.Int16, oip.Int32:
		for _, value := range c.GetIntContents() {
			if value<<unused>>unused != value {
				return nil, fmt.Errorf("contents have %d, which is no %s", value, datatype)
			}
			raw = append(raw, order.AppendUint32(nil, uint32(value))[:size]...)
		}
	case oip.Uint8, oip.Uint16, oip.Uint32:
		for _, value := range c.GetUintContents() {
			if value<<unused>>unused != value {
				return nil, fmt.Errorf("contents have %d, which is no %s", value, datatype)
			}
			raw = append(raw, order.AppendUint32(nil, value)[:size]...)
		}
	case oip.Int64:
		for _, value := range c.GetInt64Contents() {
			raw = order.AppendUint64(raw, uint64(value))
		}
	case oip.Uint64:
		for _, value := range c.GetUint64Contents() {
			raw = order.AppendUint64(raw, value)
		}
	case oip.FP32:
		for _, value := range c.GetFp32Contents() {
			raw = order.AppendUint32(raw, math.Float32bits(value))
		}
	case oip.FP64:
		for _, value := range c.GetFp64Contents() {
			raw = order.AppendUint64(raw, math.Float64bits(value))
		}
	}
	return raw, nil
}
