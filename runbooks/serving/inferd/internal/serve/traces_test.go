package serve

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"noble-runbooks/inferd/internal/batch"
	"noble-runbooks/inferd/internal/model"
	pb "noble-runbooks/inferd/internal/oippb"
	"noble-runbooks/inferd/internal/tracing"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan  = "00f067aa0ba902b7"
	traceparent = "00-" + traceID + "-" + clientSpan + "-01"
)

// receiver takes spans over OTLP, as a collector does.
type receiver struct {
	mu    sync.Mutex
	spans []*tracepb.Span
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var sent coltracepb.ExportTraceServiceRequest
	if err != nil || request.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
		http.Error(w, "no spans", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range sent.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// traced is what a server sends while it is asked, by the span's name.
func traced(t *testing.T, s *serving, ask func()) map[string]*tracepb.Span {
	t.Helper()
	var received receiver
	listener := httptest.NewServer(&received)
	defer listener.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listener.URL)
	traces, end, err := tracing.FromEnvironment(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	s.Traces = traces
	ask()
	if err := end(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := map[string]*tracepb.Span{}
	for _, span := range received.spans {
		spans[span.Name] = span
	}
	if len(spans) != len(received.spans) {
		t.Errorf("a span came twice: %v", received.spans)
	}
	return spans
}

func attributes(span *tracepb.Span) string {
	var all []string
	for _, attribute := range span.GetAttributes() {
		value := attribute.Value.GetStringValue()
		if value == "" {
			value = strings.TrimPrefix(attribute.Value.String(), "int_value:")
		}
		all = append(all, attribute.Key+"="+value)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestARequestsSpansAreInItsClientsTrace(t *testing.T) {
	for name, c := range map[string]struct {
		ask              func(*serving)
		span, attributes string
	}{
		"REST": {
			func(s *serving) { s.do(t, "POST", inferPath, good, "traceparent", traceparent) },
			"POST /v2/models/{model}/infer",
			"http.request.method=POST http.response.status_code=200 " +
				"http.route=/v2/models/{model}/infer inferd.model=m",
		},
		"gRPC": {
			func(s *serving) {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", traceparent)
				input := &pb.ModelInferRequest_InferInputTensor{
					Name: "x", Datatype: "INT32", Shape: []int64{1, 2},
					Contents: &pb.InferTensorContents{IntContents: []int32{3, 4}},
				}
				if _, err := dial(t, s).ModelInfer(ctx, &pb.ModelInferRequest{
					ModelName: "m", Inputs: []*pb.ModelInferRequest_InferInputTensor{input},
				}); err != nil {
					t.Error(err)
				}
			},
			"inference.GRPCInferenceService/ModelInfer",
			"inferd.model=m rpc.response.status_code=OK rpc.system.name=grpc",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, 0, plain)
			spans := traced(t, s, func() { c.ask(s) })
			request, queue, run := spans[c.span], spans["queue"], spans["model"]
			if len(spans) != 3 || request == nil || queue == nil || run == nil {
				t.Fatalf("the spans are %v", spans)
			}
			for _, span := range spans {
				if hex.EncodeToString(span.TraceId) != traceID {
					t.Errorf("%s is in another trace", span.Name)
				}
			}
			if hex.EncodeToString(request.ParentSpanId) != clientSpan || request.Kind != tracepb.Span_SPAN_KIND_SERVER ||
				string(queue.ParentSpanId) != string(request.SpanId) || string(run.ParentSpanId) != string(request.SpanId) {
				t.Errorf("the spans do not hang together: %v", spans)
			}
			if queue.EndTimeUnixNano != run.StartTimeUnixNano || run.EndTimeUnixNano > request.EndTimeUnixNano {
				t.Errorf("the times do not fit: %v", spans)
			}
			if got := attributes(request); got != c.attributes {
				t.Errorf("got %s", got)
			}
			if got := attributes(run); got != "inferd.batch.rows=1" {
				t.Errorf("got %s", got)
			}
		})
	}
}

// Who gave up, and where, is what a trace is looked at for.
func TestASpanSaysWhereARequestGaveUp(t *testing.T) {
	late := `{"parameters":{"timeout":20000},` + good[1:]
	for name, c := range map[string]struct {
		next  func() (model.Model, error)
		delay time.Duration
		want  map[string]tracepb.Status_StatusCode
	}{
		"in the queue": {
			func() (model.Model, error) { return &echo{output: "y"}, nil }, time.Minute,
			map[string]tracepb.Status_StatusCode{"queue": tracepb.Status_STATUS_CODE_ERROR},
		},
		"in the model": {
			func() (model.Model, error) { return &slowAfterFirst{echo: echo{output: "y"}}, nil }, 0,
			map[string]tracepb.Status_StatusCode{
				"queue": tracepb.Status_STATUS_CODE_UNSET, "model": tracepb.Status_STATUS_CODE_ERROR,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, 0, batch.Options{Rows: 4, Queue: 16, Workers: 1, Delay: c.delay})
			s.next = c.next
			if err := s.Slots[0].Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.want["POST /v2/models/{model}/infer"] = tracepb.Status_STATUS_CODE_ERROR
			spans := traced(t, s, func() {
				if response, text := s.do(t, "POST", inferPath, late); response.StatusCode != http.StatusGatewayTimeout {
					t.Errorf("%d %s", response.StatusCode, text)
				}
			})
			if len(spans) != len(c.want) {
				t.Errorf("the spans are %v", spans)
			}
			for name, status := range c.want {
				if span := spans[name]; span == nil || span.GetStatus().GetCode() != status {
					t.Errorf("%s: %v", name, span)
				}
			}
		})
	}
}

func TestWhereSpansCannotGoIsSaidAtTheStart(t *testing.T) {
	for variable, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
			t.Setenv(variable, value)
			if _, _, err := tracing.FromEnvironment(t.Context(), "1"); err == nil ||
				!strings.Contains(err.Error(), variable) || !strings.Contains(err.Error(), value) {
				t.Errorf("got %v", err)
			}
		})
	}
}
