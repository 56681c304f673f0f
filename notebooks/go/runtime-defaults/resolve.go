// Command resolve looks a host name up; with GODEBUG=netdns=2 it says which resolver answered.
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	addresses, err := net.LookupHost(os.Args[1])
	fmt.Println(addresses, err)
}
