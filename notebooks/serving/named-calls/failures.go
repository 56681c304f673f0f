package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// report is what posts print: it logs a failure's status and address, and returns an error.
func report(response *http.Response) error {
	if response.StatusCode >= 400 {
		log.Printf("API error: %d, URL: %s", response.StatusCode, response.Request.URL)
		return fmt.Errorf("unexpected status: %s", response.Status)
	}
	return nil
}

// reportAll logs what was asked without who asks, and what the server says; the connection is used again.
func reportAll(response *http.Response) error {
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	if response.StatusCode >= 400 {
		asked := response.Request
		log.Printf("API error: %d, %s %s%s: %s", response.StatusCode, asked.Method, asked.URL.Host, asked.URL.Path, said)
		return fmt.Errorf("unexpected status: %s", response.Status)
	}
	return nil
}

// failures asks a model's server ten times for what it refuses, and has each failure reported.
func failures(way string) error {
	handle := map[string]func(*http.Response) error{"post": report, "careful": reportAll}[way]
	var opened atomic.Int32
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "input has 5 dimensions and should have 4")
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				opened.Add(1)
			}
		},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	failed := 0
	for range 10 {
		response, err := http.Get(fmt.Sprintf("http://team:pa55word@%s/v2/models/m/infer?api_key=key-4711", listener.Addr()))
		if err != nil {
			return err
		}
		if handle(response) != nil {
			failed++
		}
	}
	fmt.Printf("%s: %d failures, %d connections\n", way, failed, opened.Load())
	return nil
}

// serve is a service that somebody wants to profile: with profiles it imports net/http/pprof and serves them.
func serve(way string) error {
	fmt.Println("started")
	if way == "profiles" {
		return serveProfiles()
	}
	time.Sleep(time.Minute)
	return nil
}
