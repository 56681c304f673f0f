package serve

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// requestIDHeader is what a proxy in front sets, and what an answer carries.
const requestIDHeader = "X-Request-Id"

type requestIDKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

func identified(ctx context.Context, id string) context.Context {
	const most = 128
	if id == "" || len(id) > most {
		id = rand.Text()
	}
	return context.WithValue(ctx, requestIDKey{}, id)
}

func withRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := identified(r.Context(), r.Header.Get(requestIDHeader))
		w.Header().Set(requestIDHeader, requestID(ctx))
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// answered tells the metrics, the span and the log what became of a request.
func (s *Server) answered(ctx context.Context, model, protocol string, code int, took time.Duration, err error) {
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("inferd.model", model))
	if code >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, err.Error())
	}
	s.Metrics.answered(model, protocol, code, took)
	s.logAnswer(ctx, model, protocol, code, took, err)
}

// logAnswer logs what went wrong on the server's side as an error, a client's fault as information,
// and what went well only if asked for: at full load a line a request costs more than it tells.
func (s *Server) logAnswer(ctx context.Context, model, protocol string, code int, took time.Duration, err error) {
	level := slog.LevelDebug
	switch {
	case code >= http.StatusInternalServerError:
		level = slog.LevelError
	case err != nil:
		level = slog.LevelInfo
	}
	if !s.Log.Enabled(ctx, level) {
		return
	}
	attributes := []slog.Attr{
		slog.String("request_id", requestID(ctx)), slog.String("model", model),
		slog.String("protocol", protocol), slog.Int("code", code), slog.Duration("took", took),
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		attributes = append(attributes, slog.String("trace_id", span.TraceID().String()))
	}
	if err != nil {
		attributes = append(attributes, slog.String("error", err.Error()))
	}
	s.Log.LogAttrs(ctx, level, "answered", attributes...)
}
