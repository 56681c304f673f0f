// Resolve imports net, whose C part is the one that most programs have without knowing it.
package main

import (
	"fmt"
	"net"
)

func main() { fmt.Println(net.LookupPort("tcp", "https")) }
