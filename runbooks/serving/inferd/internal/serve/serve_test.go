package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	"noble-runbooks/inferd/internal/batch"
	"noble-runbooks/inferd/internal/model"
	"noble-runbooks/inferd/internal/oip"
	pb "noble-runbooks/inferd/internal/oippb"
	"noble-runbooks/inferd/internal/tracing"
)

// echo answers with its input, after some time. It notices if it is used after it was closed.
type echo struct {
	takes  time.Duration
	output string
	closed atomic.Bool
}

func (e *echo) Signature() *model.Signature {
	port := func(name string) []model.Port {
		return []model.Port{{Name: name, Datatype: oip.Int32, Shape: []int64{-1, 2}}}
	}
	return &model.Signature{Platform: "echo", Inputs: port("x"), Outputs: port(e.output)}
}

func (e *echo) Run(ctx context.Context, inputs []oip.Tensor) ([]oip.Tensor, error) {
	if e.closed.Load() {
		return nil, errors.New("used after it was closed")
	}
	select {
	case <-time.After(e.takes):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if e.closed.Load() {
		return nil, errors.New("closed while it was used")
	}
	outputs := slices.Clone(inputs)
	outputs[0].Name = e.output
	return outputs, nil
}

func (e *echo) Close() error { e.closed.Store(true); return nil }

// serving is a server with one model, and what loads the next one.
type serving struct {
	*Server
	next func() (model.Model, error)
	url  string
}

func start(t *testing.T, takes time.Duration, options batch.Options) *serving {
	t.Helper()
	metrics := NewMetrics()
	s := &serving{next: func() (model.Model, error) { return &echo{takes: takes, output: "y"}, nil }}
	load := func() (model.Model, error) { return s.next() }
	slot := NewSlot("m", load, options, metrics.Batches("m"))
	if err := slot.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Server = &Server{
		Version: "1", Slots: []*Slot{slot}, Metrics: metrics, MaxBody: 1 << 10, Timeout: 5 * time.Second,
		Log: slog.New(slog.DiscardHandler), Traces: tracing.Off(),
	}
	metrics.Watch(s.Slots)
	listener := httptest.NewServer(s.REST())
	t.Cleanup(func() { listener.Close(); slot.Close() })
	s.url = listener.URL
	return s
}

func (s *serving) do(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for index := 0; index < len(headers); index += 2 {
		request.Header.Set(headers[index], headers[index+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

const (
	inferPath = "/v2/models/m/infer"
	good      = `{"id":"7","inputs":[{"name":"x","datatype":"INT32","shape":[1,2],"data":[3,4]}]}`
)

var plain = batch.Options{Rows: 4, Queue: 16, Workers: 1}

func TestREST(t *testing.T) {
	s := start(t, 0, plain)
	input := func(members string) string { return `{"inputs":[{"name":"x",` + members + `}]}` }
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/v2", "", 200, `"name":"inferd"`},
		{"GET", "/v2/health/live", "", 200, `{"live":true}`},
		{"GET", "/v2/health/ready", "", 200, `{"ready":true}`},
		{"GET", "/v2/models/m", "", 200, `"inputs":[{"name":"x","datatype":"INT32","shape":[-1,2]}]`},
		{"GET", "/v2/models/m/ready", "", 200, `{"name":"m","ready":true}`},
		{"GET", "/v2/models/m/versions/1/ready", "", 200, ""},
		{"GET", "/v2/models/m/versions/2/ready", "", 404, `has version \"1\", not \"2\"`},
		{"GET", "/v2/models/n", "", 404, `there is no such model: \"n\"`},
		{"GET", "/v2/model/m", "", 404, `{"error":"nothing is served at /v2/model/m"}`},
		{"GET", inferPath, "", 405, `{"error":"there is no GET at /v2/models/m/infer"}`},
		{"POST", "/v2/models/n/infer", good, 404, `there is no such model`},
		{"POST", inferPath, good, 200, `{"model_name":"m","model_version":"1","id":"7","outputs":[{"name":"y","datatype":"INT32","shape":[1,2],"data":[3,4]}]}`},
		{"POST", inferPath, "{", 400, "ends before"},
		{"POST", inferPath, input(`"datatype":"INT64","shape":[1,2],"data":[3,4]`), 400, "is INT64; the model takes INT32"},
		{"POST", inferPath, input(`"datatype":"INT32","shape":[2],"data":[3,4]`), 400, "has shape [2]; the model takes [-1 2]"},
		{"POST", inferPath, input(`"datatype":"INT32","shape":[0,2],"data":[]`), 400, `input \"x\" has no rows; send at least 1`},
		{"POST", inferPath, input(`"datatype":"INT32","shape":[5,2],"data":[1,1,1,1,1,1,1,1,1,1]`), 400, "too many rows: the request has 5, a batch at most 4"},
		{"POST", inferPath, strings.Replace(good, `"x"`, `"z"`, 1), 400, `there is no input \"z\"`},
		{"POST", inferPath, good[:len(good)-1] + `,"outputs":[{"name":"q"}]}`, 400, `there is no output \"q\"`},
		{"POST", inferPath, strings.Repeat(" ", 2000), 413, "larger than 1024 bytes"},
	} {
		response, text := s.do(t, c.method, c.path, c.body)
		if response.StatusCode != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, response.StatusCode, text)
		}
		if c.code >= 400 && !json.Valid([]byte(text)) {
			t.Errorf("%s %s: the error is not JSON: %s", c.method, c.path, text)
		}
	}
}

func TestBinaryData(t *testing.T) {
	s := start(t, 0, plain)
	text := `{"inputs":[{"name":"x","datatype":"INT32","shape":[1,2],"parameters":{"binary_data_size":8}}],` +
		`"outputs":[{"name":"y","parameters":{"binary_data":true}}]}`
	raw := "\x03\x00\x00\x00\x04\x00\x00\x00"
	response, body := s.do(t, "POST", inferPath, text+raw, oip.HeaderLength, fmt.Sprint(len(text)))
	if response.StatusCode != 200 || !strings.HasSuffix(body, raw) ||
		response.Header.Get(oip.HeaderLength) != fmt.Sprint(len(body)-8) {
		t.Errorf("%d %q", response.StatusCode, body)
	}
}

func TestAnOutputsOwnWordOnBinaryDataGoesFirst(t *testing.T) {
	s := start(t, 0, plain)
	for own, binary := range map[string]bool{"": true, `"binary_data":true`: true, `"binary_data":false`: false} {
		body := `{"parameters":{"binary_data_output":true},` + good[1:len(good)-1] +
			`,"outputs":[{"name":"y","parameters":{` + own + `}}]}`
		response, text := s.do(t, "POST", inferPath, body)
		if response.StatusCode != 200 || strings.Contains(text, "binary_data_size") != binary {
			t.Errorf("%s: %d %q", own, response.StatusCode, text)
		}
	}
}

func TestARequestKeepsItsID(t *testing.T) {
	s := start(t, 0, plain)
	if response, _ := s.do(t, "POST", inferPath, good, requestIDHeader, "abc"); response.Header.Get(requestIDHeader) != "abc" {
		t.Error(response.Header)
	}
	if response, _ := s.do(t, "POST", inferPath, good); len(response.Header.Get(requestIDHeader)) < 20 {
		t.Error(response.Header)
	}
}

func TestADeadlineOfTheClientsIsKept(t *testing.T) {
	s := start(t, 0, plain)
	s.next = func() (model.Model, error) { return &slowAfterFirst{echo: echo{output: "y"}}, nil }
	if err := s.Slots[0].Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	body := `{"parameters":{"timeout":20000},` + good[1:]
	if response, text := s.do(t, "POST", inferPath, body); response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

// slowAfterFirst answers what it is tried with, and then takes a minute.
type slowAfterFirst struct {
	echo
	runs atomic.Int32
}

func (s *slowAfterFirst) Run(ctx context.Context, inputs []oip.Tensor) ([]oip.Tensor, error) {
	if s.runs.Add(1) > 1 {
		s.takes = time.Minute
	}
	return s.echo.Run(ctx, inputs)
}

func TestWhatCannotWaitIsToldToComeAgain(t *testing.T) {
	s := start(t, 300*time.Millisecond, batch.Options{Rows: 1, Queue: 1, Workers: 1})
	var refused atomic.Int32
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			response, text := s.do(t, "POST", inferPath, good)
			switch response.StatusCode {
			case http.StatusTooManyRequests:
				refused.Add(1)
				if response.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			case http.StatusOK:
			default:
				t.Errorf("%d %s", response.StatusCode, text)
			}
		})
	}
	all.Wait()
	if refused.Load() < 3 {
		t.Errorf("%d were refused", refused.Load())
	}
}

func TestReloadsLoseNoRequest(t *testing.T) {
	s := start(t, time.Millisecond, batch.Options{Rows: 4, Queue: 64, Workers: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var answered atomic.Int64
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if response, text := s.do(t, "POST", inferPath, good); response.StatusCode != http.StatusOK {
					t.Errorf("%d %s", response.StatusCode, text)
				}
				answered.Add(1)
			}
		})
	}
	const reloads = 50
	for range reloads {
		if err := s.Slots[0].Load(t.Context()); err != nil {
			t.Error(err)
		}
	}
	cancel()
	clients.Wait()
	if _, version := s.Slots[0].Signature(); version != fmt.Sprint(1+reloads) || answered.Load() < reloads {
		t.Errorf("version %s after %d answers", version, answered.Load())
	}
}

func TestAModelThatCannotBeLoadedLeavesTheOneBefore(t *testing.T) {
	s := start(t, 0, plain)
	for name, next := range map[string]func() (model.Model, error){
		"unreadable":    func() (model.Model, error) { return nil, errors.New("no such file") },
		"other outputs": func() (model.Model, error) { return &echo{output: "z"}, nil },
		"fails":         func() (model.Model, error) { e := &echo{output: "y"}; e.closed.Store(true); return e, nil },
	} {
		s.next = next
		if err := s.Slots[0].Load(t.Context()); err == nil {
			t.Errorf("%s: it was loaded", name)
		}
		if response, text := s.do(t, "POST", inferPath, good); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", name, response.StatusCode, text)
		}
	}
}

func TestWhileItDrainsItAnswersAndIsNotReady(t *testing.T) {
	s := start(t, 0, plain)
	s.Drain()
	for path, want := range map[string]int{
		"/v2/health/live": 200, "/v2/health/ready": 503, "/v2/models/m/ready": 503,
	} {
		if response, _ := s.do(t, "GET", path, ""); response.StatusCode != want {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
	if response, _ := s.do(t, "POST", inferPath, good); response.StatusCode != http.StatusOK {
		t.Error(response.StatusCode)
	}
}

func TestMetricsHaveNoNameThatAClientMadeUp(t *testing.T) {
	s := start(t, 0, plain)
	s.do(t, "POST", "/v2/models/made-up/infer", good)
	families, err := s.Metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(families); strings.Contains(text, "made-up") || !strings.Contains(text, "404") {
		t.Error(text)
	}
}

func dial(t *testing.T, s *serving) pb.GRPCInferenceServiceClient {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := s.GRPC()
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return pb.NewGRPCInferenceServiceClient(connection)
}

func TestGRPC(t *testing.T) {
	s := start(t, 0, plain)
	client := dial(t, s)
	raw := []byte{3, 0, 0, 0, 4, 0, 0, 0}
	tensor := func(datatype string, contents *pb.InferTensorContents) []*pb.ModelInferRequest_InferInputTensor {
		return []*pb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: datatype, Shape: []int64{1, 2}, Contents: contents}}
	}
	typed := tensor("INT32", &pb.InferTensorContents{IntContents: []int32{3, 4}})
	for name, c := range map[string]struct {
		request *pb.ModelInferRequest
		code    codes.Code
		want    string
	}{
		"typed":     {request: &pb.ModelInferRequest{ModelName: "m", Inputs: typed}},
		"raw":       {request: &pb.ModelInferRequest{ModelName: "m", Inputs: tensor("INT32", nil), RawInputContents: [][]byte{raw}}},
		"no model":  {&pb.ModelInferRequest{ModelName: "n", Inputs: typed}, codes.NotFound, "no such model"},
		"no inputs": {&pb.ModelInferRequest{ModelName: "m"}, codes.InvalidArgument, "no inputs"},
		"too short": {
			&pb.ModelInferRequest{ModelName: "m", Inputs: tensor("INT32", nil), RawInputContents: [][]byte{raw[:4]}},
			codes.InvalidArgument, "has 4 bytes",
		},
		"twice": {
			&pb.ModelInferRequest{ModelName: "m", Inputs: typed, RawInputContents: [][]byte{raw}},
			codes.InvalidArgument, "contents twice",
		},
		"does not fit": {
			&pb.ModelInferRequest{ModelName: "m", Inputs: tensor("INT8", &pb.InferTensorContents{IntContents: []int32{128, 0}})},
			codes.InvalidArgument, "128, which is no INT8",
		},
	} {
		response, err := client.ModelInfer(t.Context(), c.request)
		if got := grpcstatus.Convert(err); got.Code() != c.code || !strings.Contains(got.Message(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && !bytes.Equal(response.RawOutputContents[0], raw) {
			t.Errorf("%s: %v", name, response)
		}
	}
	server, err := client.ServerMetadata(t.Context(), &pb.ServerMetadataRequest{})
	if err != nil || !slices.Equal(server.Extensions, extensions) {
		t.Errorf("%v, %v", server, err)
	}
	metadata, err := client.ModelMetadata(t.Context(), &pb.ModelMetadataRequest{Name: "m"})
	if err != nil || metadata.Inputs[0].Name != "x" || metadata.Platform != "echo" {
		t.Errorf("%v, %v", metadata, err)
	}
	if ready, err := client.ServerReady(t.Context(), &pb.ServerReadyRequest{}); err != nil || !ready.Ready {
		t.Errorf("%v, %v", ready, err)
	}
}
