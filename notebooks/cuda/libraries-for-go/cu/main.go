//go:build cuda

// Command cu asks the driver for its cards, through the binding gorgonia.org/cu.
package main

import (
	"fmt"

	"gorgonia.org/cu"
)

func main() {
	count, err := cu.NumDevices()
	fmt.Println(count, err)
}
