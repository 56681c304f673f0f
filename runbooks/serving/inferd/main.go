// Inferd serves a model in ONNX's format over the Open Inference Protocol, version 2.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"noble-runbooks/inferd/internal/batch"
	"noble-runbooks/inferd/internal/model"
	"noble-runbooks/inferd/internal/serve"
	"noble-runbooks/inferd/internal/tracing"
)

// release is what a build is called, given by its linker: -ldflags="-X main.release=1.4".
var release string

type settings struct {
	rest, grpc, private string
	runtime             string
	models              map[string]string
	model               model.Options
	batch               batch.Options
	maxBody             int64
	timeout             time.Duration
	drain, linger       time.Duration
	check               bool
	logLevel            slog.Level
}

func parse(arguments []string) (*settings, error) {
	s := &settings{models: map[string]string{}, model: model.Options{Provider: model.CPU}}
	flags := flag.NewFlagSet("inferd", flag.ContinueOnError)
	flags.StringVar(&s.rest, "listen", "127.0.0.1:8080", "address for REST; a socket that systemd passes under the name rest goes before")
	flags.StringVar(&s.grpc, "listen-grpc", "127.0.0.1:8081", "address for gRPC; a passed socket named grpc goes before")
	flags.StringVar(&s.private, "listen-private", "127.0.0.1:8082", "address for metrics, profiles and reloads; a passed socket named private goes before")
	flags.StringVar(&s.runtime, "runtime", "libonnxruntime.so", "shared library of ONNX Runtime")
	flags.Func("model", "NAME=FILE; once for each model", s.addModel)
	flags.Func("provider", "cpu or cuda; a model that would not run there whole is refused (default cpu)", s.setProvider)
	flags.IntVar(&s.model.Threads, "threads", 1, "threads of a run; 0: as many as there are processors")
	flags.IntVar(&s.batch.Rows, "batch-rows", 16, "largest batch")
	flags.DurationVar(&s.batch.Delay, "batch-delay", 0, "how long the first request of a batch waits for others")
	flags.IntVar(&s.batch.Queue, "queue", 128, "requests that may wait; the next ones are refused")
	flags.IntVar(&s.batch.Workers, "workers", 1, "batches that run at a time")
	flags.Int64Var(&s.maxBody, "max-body", 64<<20, "largest body, in bytes")
	flags.DurationVar(&s.timeout, "timeout", 10*time.Second, "longest time for a request")
	flags.DurationVar(&s.drain, "drain", 30*time.Second, "longest time for what is under way at the end")
	flags.DurationVar(&s.linger, "linger", time.Second, "longest time that connections stay open at the end for a request that may be on its way")
	flags.BoolVar(&s.check, "check", false, "load the models, say what they take and give, and end")
	flags.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("%q is no flag; see -help", flags.Arg(0))
	case len(s.models) == 0:
		return nil, errors.New("there is no model; give -model NAME=FILE")
	case s.batch.Rows < 1 || s.batch.Queue < 1 || s.batch.Workers < 1 || s.batch.Delay < 0:
		return nil, errors.New("-batch-rows, -queue and -workers are at least 1, -batch-delay at least 0")
	case s.maxBody < 1 || s.timeout <= 0 || s.drain <= 0 || s.linger < 0:
		return nil, errors.New("-max-body, -timeout and -drain are above 0, -linger at least 0")
	}
	return s, nil
}

func (s *settings) addModel(text string) error {
	name, file, found := strings.Cut(text, "=")
	if !found || name == "" || file == "" || strings.ContainsAny(name, "/ ") {
		return errors.New("it is NAME=FILE, and NAME has no slash or blank")
	}
	if _, twice := s.models[name]; twice {
		return fmt.Errorf("there are two models named %s", name)
	}
	s.models[name] = file
	return nil
}

func (s *settings) setProvider(text string) error {
	s.model.Provider = model.Provider(text)
	if s.model.Provider != model.CPU && s.model.Provider != model.CUDA {
		return errors.New("it is cpu or cuda")
	}
	return nil
}

func main() {
	s, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "inferd:", err)
		os.Exit(1)
	}
}

func run(s *settings) error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: s.logLevel}))
	slog.SetDefault(log)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)

	library, err := model.OpenRuntime(s.runtime)
	if err != nil {
		return err
	}
	traces, endTraces, err := tracing.FromEnvironment(context.Background(), version())
	if err != nil {
		return err
	}
	metrics := serve.NewMetrics()
	server := &serve.Server{
		Version: version(), Metrics: metrics, Log: log, MaxBody: s.maxBody, Timeout: s.timeout, Traces: traces,
	}
	for name, file := range s.models {
		load := func() (model.Model, error) { return library.Load(file, s.model) }
		slot := serve.NewSlot(name, load, s.batch, metrics.Batches(name))
		if err := slot.Load(context.Background()); err != nil {
			return err
		}
		server.Slots = append(server.Slots, slot)
	}
	if s.check {
		return check(server.Slots, library)
	}
	metrics.Watch(server.Slots)

	listeners, err := listen(s)
	if err != nil {
		return err
	}
	public := serve.NewFront(server.REST(), listeners["rest"])
	private := &http.Server{Handler: privateHandler(server, metrics), ReadHeaderTimeout: 10 * time.Second}
	grpcServer := server.GRPC()
	ended := make(chan error, 3)
	go func() { ended <- public.Serve() }()
	go func() { ended <- private.Serve(listeners["private"]) }()
	go func() { ended <- grpcServer.Serve(listeners["grpc"]) }()
	notify(daemon.SdNotifyReady)
	log.Info("ready", "runtime", library.Version(), "rest", listeners["rest"].Addr().String(),
		"grpc", listeners["grpc"].Addr().String(), "private", listeners["private"].Addr().String())

	for {
		select {
		case err := <-ended:
			return err
		case got := <-signals:
			if got == syscall.SIGHUP {
				notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
				reload(server, metrics)
				notify(daemon.SdNotifyReady)
				continue
			}
		}
		break
	}
	notify(daemon.SdNotifyStopping)
	server.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	var drained sync.WaitGroup
	drained.Go(func() { err = public.Shutdown(ctx, s.linger) })
	drained.Go(func() {
		stop := context.AfterFunc(ctx, grpcServer.Stop)
		defer stop()
		grpcServer.GracefulStop()
	})
	drained.Wait()
	for _, slot := range server.Slots {
		slot.Close()
	}
	if err != nil {
		return fmt.Errorf("requests were still under way after %s: %w", s.drain, err)
	}
	// A receiver that is away does not hold up the end.
	sending, stopSending := context.WithTimeout(context.Background(), 2*time.Second)
	defer stopSending()
	if err := endTraces(sending); err != nil {
		log.Warn("the last spans are lost", "error", err)
	}
	return errors.Join(private.Close(), library.Close())
}

// check says what the models take and give, and puts everything down again.
func check(slots []*serve.Slot, library *model.Runtime) error {
	for _, slot := range slots {
		signature, _ := slot.Signature()
		fmt.Printf("%s takes %v and gives %v\n", slot.Name, signature.Inputs, signature.Outputs)
		slot.Close()
	}
	fmt.Println("ONNX Runtime", library.Version())
	return library.Close()
}

// listen takes the sockets that systemd passes, by name, and opens the others.
func listen(s *settings) (map[string]net.Listener, error) {
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("the sockets that were passed cannot be used: %w", err)
	}
	listeners := map[string]net.Listener{}
	for name, address := range map[string]string{"rest": s.rest, "grpc": s.grpc, "private": s.private} {
		if sockets := passed[name]; len(sockets) > 0 {
			listeners[name] = sockets[0]
			continue
		}
		if listeners[name], err = net.Listen("tcp", address); err != nil {
			return nil, err
		}
	}
	return listeners, nil
}

// privateHandler serves what no client of the model should reach.
func privateHandler(server *serve.Server, metrics *serve.Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, _ *http.Request) {
		if err := reload(server, metrics); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// reload loads every model anew. What cannot be loaded stays as it was.
func reload(server *serve.Server, metrics *serve.Metrics) error {
	var failed error
	for _, slot := range server.Slots {
		err := slot.Load(context.Background())
		metrics.Reloaded(slot.Name, err)
		if err != nil {
			slog.Error("a model stays as it was", "model", slot.Name, "error", err)
		} else {
			_, version := slot.Signature()
			slog.Info("a model was loaded", "model", slot.Name, "version", version)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// notify tells systemd, if it started this and wants to know.
func notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		slog.Warn("systemd cannot be told", "state", state, "error", err)
	}
}

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
