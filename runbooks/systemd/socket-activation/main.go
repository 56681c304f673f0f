// Hello is an HTTP service that takes its listening sockets from systemd. It says when it is
// ready, finishes its requests before it ends, and ends by itself when nobody has asked for a while.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

var release = "1" // the linker sets it

func main() {
	address := flag.String("listen", "", "where to listen if systemd passes no socket")
	idle := flag.Duration("idle", 0, "end after so long without a connection (0: never)")
	start := flag.Duration("start", 0, "take so long until ready")
	flag.Parse()
	log.SetFlags(0) // the journal has the time
	if err := run(*address, *idle, *start); err != nil {
		log.Fatal(err)
	}
}

func run(address string, idle, start time.Duration) error {
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	select {
	case <-time.After(start):
	case <-ended.Done():
		return nil
	}
	sockets, err := listeners(address)
	if err != nil {
		return err
	}

	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from release %s, process %d\n", release, os.Getpid())
	})
	// A connection that is kept for a next request must not keep an idle service.
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: cmp.Or(idle, time.Minute)}
	visitors := newVisitors(idle)
	server.ConnState = visitors.count
	var serving sync.WaitGroup
	for _, socket := range sockets {
		serving.Go(func() {
			if err := server.Serve(socket); !errors.Is(err, net.ErrClosed) {
				log.Print(err)
				stop()
			}
		})
	}
	daemon.SdNotify(false, daemon.SdNotifyReady)

	select {
	case <-ended.Done():
	case <-visitors.gone:
		log.Printf("nobody has asked for %s", idle)
	}
	daemon.SdNotify(false, daemon.SdNotifyStopping)
	// Take no more connections: those that wait are systemd's, and the next process's. Then answer
	// those that were taken. Server.Shutdown would drop one whose request it has not read yet.
	for _, socket := range sockets {
		socket.Close()
	}
	serving.Wait()
	server.SetKeepAlivesEnabled(false)
	return visitors.wait(20 * time.Second)
}

// listeners returns the sockets that systemd passed, or one of its own where an address is given.
func listeners(address string) ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	for i, socket := range passed {
		if socket == nil { // not one to accept connections from, a UDP socket for example
			return nil, fmt.Errorf("socket %d from systemd is no listener", i)
		}
	}
	switch {
	case len(passed) > 0:
		return passed, nil
	case address == "":
		return nil, errors.New("no socket was passed: start the socket unit, or give -listen")
	}
	own, err := net.Listen("tcp", address)
	return []net.Listener{own}, err
}

// visitors are the connections that are open.
type visitors struct {
	gone  chan struct{} // closed once there has been none for so long
	idle  time.Duration
	timer *time.Timer
	mutex sync.Mutex
	open  int
	all   sync.WaitGroup
}

func newVisitors(idle time.Duration) *visitors {
	v := &visitors{gone: make(chan struct{}), idle: idle}
	leave := sync.OnceFunc(func() { close(v.gone) })
	v.timer = time.AfterFunc(idle, func() {
		v.mutex.Lock()
		defer v.mutex.Unlock()
		if v.idle > 0 && v.open == 0 {
			leave()
		}
	})
	return v
}

// count is called by the server whenever a connection's state changes.
func (v *visitors) count(_ net.Conn, state http.ConnState) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	switch state {
	case http.StateNew:
		v.all.Add(1)
		v.open++
		v.timer.Stop()
	case http.StateClosed, http.StateHijacked:
		v.all.Done()
		v.open--
		if v.open == 0 && v.idle > 0 {
			v.timer.Reset(v.idle)
		}
	}
}

// wait returns once no connection is open, or with an error after so long.
func (v *visitors) wait(limit time.Duration) error {
	left := make(chan struct{})
	go func() {
		v.all.Wait()
		close(left)
	}()
	select {
	case <-left:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("requests went on after %s", limit)
	}
}
