// Command https serves HTTPS on loopback with net/http's defaults.
//
//	https        asks itself and prints the protocols that were agreed on
//	https serve  prints its address, then answers until its input ends
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
)

func main() {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "ok")
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	if len(os.Args) > 1 && os.Args[1] == "serve" {
		fmt.Println(server.Listener.Addr())
		io.Copy(io.Discard, os.Stdin)
		return
	}
	response, err := server.Client().Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	fmt.Printf("%s, %s, Alt-Svc %q\n",
		response.Proto, tls.VersionName(response.TLS.Version), response.Header.Get("Alt-Svc"))
}
