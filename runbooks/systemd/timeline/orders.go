// Command orders is the service that the runbook systemd/timeline is shown with: its requests can
// be found in the log and in execution traces, and what happened lately can be asked for.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"log/slog"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime/trace"
	"strconv"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address for orders")
	debug := flag.String("debug", "127.0.0.1:6060", "address of the debug endpoints; none if empty")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))

	if *debug != "" {
		go serve(*debug, debugEndpoints())
	}
	orders := http.NewServeMux()
	orders.HandleFunc("/order", order)
	orders.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	serve(*listen, traced(orders))
}

func serve(address string, handler http.Handler) {
	err := http.ListenAndServe(address, handler)
	slog.Error("no longer serving", "address", address, "error", err)
	os.Exit(1)
}

// debugEndpoints has what net/http/pprof registers, and the flight recorder beside it.
func debugEndpoints() http.Handler {
	recorder := trace.NewFlightRecorder(trace.FlightRecorderConfig{
		MinAge:   10 * time.Second, // keep so much of the past,
		MaxBytes: 16 << 20,         // or less of it: this takes precedence; both are hints
	})
	if err := recorder.Start(); err != nil {
		slog.Error("no flight recorder", "error", err)
	}
	http.HandleFunc("/debug/flight", func(w http.ResponseWriter, r *http.Request) {
		var past bytes.Buffer // so that a failure is no answer that ends early
		if _, err := recorder.WriteTo(&past); err != nil {
			http.Error(w, "the flight recorder was not read: "+err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = past.WriteTo(w)
	})
	return http.DefaultServeMux
}

// traced makes a request a task of execution traces, under the id that the log has, too.
func traced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, task := trace.NewTask(r.Context(), "request")
		defer task.End()
		id, begun := r.Header.Get("X-Request-Id"), time.Now()
		trace.Log(ctx, "id", id)
		slog.Info("request begins", "id", id)
		next.ServeHTTP(w, r.WithContext(ctx))
		slog.Info("request ends", "id", id, "took", time.Since(begun))
	})
}

// order allocates enough for some garbage collections, then waits as for somebody else's answer.
func order(w http.ResponseWriter, r *http.Request) {
	var kept [16][]byte
	trace.WithRegion(r.Context(), "price", func() {
		for i := range 400 { // 25 MB in all, a megabyte of it alive
			kept[i%len(kept)] = make([]byte, 64<<10)
		}
	})
	wait, _ := strconv.Atoi(r.FormValue("wait"))
	trace.WithRegion(r.Context(), "stock", func() {
		time.Sleep(time.Duration(wait) * time.Millisecond)
	})
	trace.WithRegion(r.Context(), "answer", func() {
		_ = json.NewEncoder(w).Encode(map[string]int{"items": len(kept)})
	})
}
