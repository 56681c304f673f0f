// Portable reads a number, a host's address and a user's name: with C where the build has cgo, with
// Go alone where it has not. Built as it is on a new system, it does not start on an old one.
package main

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
)

func main() {
	by, number := parse("0b101")
	fmt.Printf("0b101 read by %s: %d\n", by, number)

	addresses, err := net.LookupHost("localhost")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("localhost:", addresses)

	me, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("user:", me.Username)
}
