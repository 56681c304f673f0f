// Package serve answers the Open Inference Protocol over REST and gRPC.
package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"

	"noble-runbooks/inferd/internal/oip"
	"noble-runbooks/inferd/internal/tracing"
)

// Server holds what both protocols share.
type Server struct {
	Version string
	Slots   []*Slot
	Metrics *Metrics
	Log     *slog.Logger
	// MaxBody is the largest body that is read, in bytes.
	MaxBody int64
	// Timeout ends a request whose client sets no shorter deadline.
	Timeout time.Duration
	// Traces are where spans of requests go.
	Traces *tracing.Tracer

	draining atomic.Bool
}

// extensions are what is served beyond the protocol, by the names that clients look for.
var extensions = []string{"binary_tensor_data"}

// Drain makes the server say that it is not ready, so that balancers turn away. It still answers.
func (s *Server) Drain() { s.draining.Store(true) }

func (s *Server) ready() bool {
	for _, slot := range s.Slots {
		if signature, _ := slot.Signature(); signature == nil {
			return false
		}
	}
	return !s.draining.Load()
}

func (s *Server) slot(name, version string) (*Slot, error) {
	for _, slot := range s.Slots {
		if slot.Name == name {
			_, current := slot.Signature()
			if version != "" && version != current {
				return nil, fmt.Errorf("%w: %s has version %q, not %q", errNoModel, name, current, version)
			}
			return slot, nil
		}
	}
	return nil, fmt.Errorf("%w: %q", errNoModel, name)
}

// within limits ctx to what the client and the server allow.
func (s *Server) within(ctx context.Context, request *oip.Request) (context.Context, context.CancelFunc) {
	timeout := s.Timeout
	if micros := request.TimeoutMicros; micros > 0 && micros < timeout.Microseconds() {
		timeout = time.Duration(micros) * time.Microsecond
	}
	return context.WithTimeout(ctx, timeout)
}

// REST is the handler of the public port.
func (s *Server) REST() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2", s.serverMetadata)
	mux.HandleFunc("GET /v2/health/live", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]bool{"live": true})
	})
	mux.HandleFunc("GET /v2/health/ready", func(w http.ResponseWriter, _ *http.Request) {
		ready := s.ready()
		reply(w, readyStatus(ready), map[string]bool{"ready": ready})
	})
	for _, path := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
		mux.HandleFunc("GET "+path, s.modelMetadata)
		mux.HandleFunc("GET "+path+"/ready", s.modelReady)
		mux.HandleFunc("POST "+path+"/infer", s.infer)
	}
	return withRequestID(inJSON(mux))
}

// inJSON has mux say what it does not serve as the protocol says errors; clients read nothing else.
func inJSON(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(&refusal{ResponseWriter: w, request: r}, r)
	})
}

// refusal writes what [http.Error] would, in the protocol's form.
type refusal struct {
	http.ResponseWriter
	request *http.Request
}

func (f *refusal) WriteHeader(code int) {
	what := "nothing is served at"
	if code == http.StatusMethodNotAllowed {
		what = "there is no " + f.request.Method + " at"
	}
	reply(f.ResponseWriter, code, map[string]string{"error": what + " " + f.request.URL.Path})
}

func (f *refusal) Write(text []byte) (int, error) { return len(text), nil }

func readyStatus(ready bool) int {
	if ready {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func (s *Server) serverMetadata(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{
		"name": "inferd", "version": s.Version, "extensions": extensions,
	})
}

func (s *Server) modelMetadata(w http.ResponseWriter, r *http.Request) {
	slot, err := s.slot(r.PathValue("model"), r.PathValue("version"))
	if err == nil {
		if signature, version := slot.Signature(); signature != nil {
			reply(w, http.StatusOK, map[string]any{
				"name": slot.Name, "versions": []string{version}, "platform": signature.Platform,
				"inputs": signature.Inputs, "outputs": signature.Outputs,
			})
			return
		}
		err = errDown
	}
	fail(w, err)
}

func (s *Server) modelReady(w http.ResponseWriter, r *http.Request) {
	slot, err := s.slot(r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		fail(w, err)
		return
	}
	signature, _ := slot.Signature()
	ready := signature != nil && !s.draining.Load()
	reply(w, readyStatus(ready), map[string]any{"name": slot.Name, "ready": ready})
}

func (s *Server) infer(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	_, route, _ := strings.Cut(r.Pattern, " ")
	ctx, span := s.Traces.Start(r.Context(), propagation.HeaderCarrier(r.Header), r.Pattern,
		attribute.String("http.request.method", r.Method), attribute.String("http.route", route))
	defer span.End()
	slot, err := s.slot(r.PathValue("model"), r.PathValue("version"))
	name := "" // a name that somebody made up must not become a label
	if err == nil {
		name = slot.Name
		err = s.inferREST(ctx, w, r, slot)
	}
	code := http.StatusOK
	if err != nil {
		code, _ = status(err)
		fail(w, err)
	}
	span.SetAttributes(attribute.Int("http.response.status_code", code))
	s.answered(ctx, name, "rest", code, time.Since(began), err)
}

func (s *Server) inferREST(ctx context.Context, w http.ResponseWriter, r *http.Request, slot *Slot) error {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return &badRequest{fmt.Errorf("content encoding %q is not served; send the body as it is", encoding)}
	}
	body, err := read(w, r, s.MaxBody)
	if err != nil {
		return err
	}
	request, err := oip.ParseRequest(body, r.Header.Get(oip.HeaderLength))
	if err != nil {
		return &badRequest{err}
	}
	ctx, cancel := s.within(ctx, request)
	defer cancel()
	response, err := slot.Infer(ctx, request)
	if err != nil {
		return err
	}
	text, jsonLength, err := response.Encode(request.Outputs)
	if err != nil {
		return &badRequest{err}
	}
	w.Header().Set("Content-Type", "application/json")
	if jsonLength > 0 {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set(oip.HeaderLength, strconv.Itoa(jsonLength))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, err = w.Write(text)
	if err != nil {
		return context.Canceled // the client has left
	}
	return nil
}

// read returns a body of at most limit bytes, in a slice of the right size from the start if the
// client said how long it is.
func read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	limited := http.MaxBytesReader(w, r.Body, limit)
	var body []byte
	var err error
	if r.ContentLength >= 0 && r.ContentLength <= limit {
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(limited, body)
	} else {
		body, err = io.ReadAll(limited)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &tooLarge):
		return nil, fmt.Errorf("the body is larger than %d bytes: %w", limit, err)
	case r.Context().Err() != nil:
		return nil, context.Canceled
	}
	return nil, &badRequest{fmt.Errorf("the body ends early: %w", err)}
}

func reply(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// What fails here is the client's connection, and it is not there to be told.
	_ = json.NewEncoder(w).Encode(value)
}

func fail(w http.ResponseWriter, err error) {
	code, _ := status(err)
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	reply(w, code, map[string]string{"error": err.Error()})
}
