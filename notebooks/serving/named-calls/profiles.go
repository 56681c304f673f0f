package main

import (
	"net/http"
	_ "net/http/pprof" // its import has the profiles under /debug/pprof/ of the default mux
	"time"
)

// serveProfiles serves what net/http/pprof has registered, to this machine alone.
func serveProfiles() error {
	server := &http.Server{Addr: "127.0.0.1:6060", ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}
