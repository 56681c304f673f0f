// Package tracing sends what happens to a request, as spans, to a receiver of OpenTelemetry's protocol.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Tracer begins a server's spans, as part of the trace that a client names in its traceparent (W3C).
type Tracer struct {
	tracer trace.Tracer
	w3c    propagation.TraceContext
}

// Off makes no spans.
func Off() *Tracer { return &Tracer{tracer: noop.NewTracerProvider().Tracer("")} }

// FromEnvironment sends spans to where OTEL_EXPORTER_OTLP_ENDPOINT says, and makes none if it says nothing.
// The other standard variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, ...) are
// read by the SDK. What is returned second sends what is left.
func FromEnvironment(ctx context.Context, release string) (*Tracer, func(context.Context) error, error) {
	var variable, endpoint string
	for _, variable = range []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		if endpoint = os.Getenv(variable); endpoint != "" {
			break
		}
	}
	if endpoint == "" {
		return Off(), func(context.Context) error { return nil }, nil
	}
	// The SDK would log this and send everything to localhost.
	if address, err := url.Parse(endpoint); err != nil || address.Host == "" ||
		address.Scheme != "http" && address.Scheme != "https" {
		return nil, nil, fmt.Errorf("%s is %q; give an address such as http://localhost:4318", variable, endpoint)
	}
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if asked := os.Getenv(variable); asked != "" && asked != "http/protobuf" {
			return nil, nil, fmt.Errorf("%s is %q; only http/protobuf is sent, mostly to port 4318", variable, asked)
		}
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("spans cannot be sent to %s: %w", endpoint, err)
	}
	about, err := resource.New(ctx, resource.WithHost(), resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "inferd"), attribute.String("service.version", release),
	), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("what OTEL_RESOURCE_ATTRIBUTES or the host says of itself cannot be used: %w", err)
	}
	// A receiver that is away costs spans, and no request.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { slog.Warn("spans are lost", "error", err) }))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return &Tracer{tracer: provider.Tracer("inferd", trace.WithInstrumentationVersion(release))}, provider.Shutdown, nil
}

// Start begins the span of a request, whose headers may name the trace that it is part of.
func (t *Tracer) Start(ctx context.Context, headers propagation.TextMapCarrier, name string,
	attributes ...attribute.KeyValue,
) (context.Context, trace.Span) {
	return t.tracer.Start(t.w3c.Extract(ctx, headers), name,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
}
