package serve

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Front is the port for clients. Its end drops no request, where [http.Server.Shutdown] alone would: that
// closes a connection whose request it has not read yet, and an idle one that a client is about to use.
type Front struct {
	server   http.Server
	listener net.Listener
	ending   atomic.Bool
	served   chan struct{} // closed once nothing is accepted any more
	open     atomic.Int64  // connections
}

// NewFront answers with handler whoever comes to listener.
func NewFront(handler http.Handler, listener net.Listener) *Front {
	f := &Front{listener: listener, served: make(chan struct{})}
	f.server = http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f.ending.Load() {
				w.Header().Set("Connection", "close") // the client sends its next request elsewhere
			}
			handler.ServeHTTP(w, r)
		}),
		ConnState: f.count,
		// A client that sends a byte now and then holds a connection, not a worker; still it ends.
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
	return f
}

// Serve accepts connections until Shutdown, and returns why it ended.
func (f *Front) Serve() error {
	defer close(f.served)
	return f.server.Serve(f.listener)
}

// Shutdown takes no more connections; those that wait in a passed socket are the next process's. Each
// that is open may bring one more request within linger, and then what is under way is waited for.
func (f *Front) Shutdown(ctx context.Context, linger time.Duration) error {
	f.ending.Store(true)
	if err := f.listener.Close(); err != nil {
		return err
	}
	<-f.served
	over := time.After(linger)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for waiting := true; waiting && f.open.Load() > 0; {
		select {
		case <-look.C:
		case <-over:
			waiting = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.server.Shutdown(ctx)
}

func (f *Front) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		f.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		f.open.Add(-1)
	}
}
