package serve

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// connected is a front that answers, and a client's connection to it.
func connected(t *testing.T) (*Front, net.Conn, func() *http.Response) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := NewFront(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "answer")
	}), listener)
	go func() { _ = front.Serve() }()
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	reader := bufio.NewReader(connection)
	return front, connection, func() *http.Response {
		if _, err := io.WriteString(connection, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(response.Body); err != nil {
			t.Fatal(err)
		}
		return response
	}
}

// end begins a shutdown and returns once nothing is accepted any more.
func end(front *Front, linger time.Duration) chan error {
	ended := make(chan error, 1)
	go func() { ended <- front.Shutdown(context.Background(), linger) }()
	<-front.served
	return ended
}

func TestFrontAnswersWhatWasNotReadYet(t *testing.T) {
	for name, before := range map[string]int{"new": 0, "idle": 1} {
		t.Run(name, func(t *testing.T) {
			front, _, ask := connected(t)
			for range before {
				if ask().Close {
					t.Fatal("a connection was closed before the end")
				}
			}
			for front.open.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			ended := end(front, time.Minute)
			if !ask().Close {
				t.Error("the client was not told to connect anew")
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFrontDoesNotWaitForWhoSaysNothing(t *testing.T) {
	front, connection, ask := connected(t)
	ask()
	if err := <-end(front, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is not closed: %v", err)
	}
}
