// Command server accepts loopback connections and answers each once, so that a trace of it shows
// how the runtime listens and waits for the network.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"runtime"
	"time"
)

const connections = 20

// The listener is opened by the first thread, where a trace looks for it.
func init() { runtime.LockOSThread() }

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go serve(listener)
	for i := 0; i < connections; i++ {
		if err := ask(listener.Addr().String()); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("answered", connections)
}

// serve answers every connection after a pause that is not a whole number of milliseconds.
func serve(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			time.Sleep(1500 * time.Microsecond)
			io.WriteString(connection, "ok")
			connection.Close()
		}()
	}
}

// ask reads one answer to its end.
func ask(address string) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = io.ReadAll(connection)
	return err
}
