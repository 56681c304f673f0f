// Command lab does one thing of those that are said of tensors and goroutines, and says what came of it.
package main

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
	"weak"
)

type tensor struct {
	refs  int32
	shape []int
	data  []float32
}

func main() {
	map[string]func(){
		"counter":  counter,
		"counted":  counted,
		"aligned":  aligned,
		"shared":   shared,
		"dispatch": dispatch,
		"workers":  workers,
		"encoded":  encoded,
		"panics":   panics,
	}[os.Args[1]]()
}

// counter adds to one number from eight goroutines.
func counter() {
	var refs int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100000 {
				atomic.AddInt32(&refs, 1)
			}
		})
	}
	all.Wait()
	fmt.Println(refs)
}

// counted has one tensor with a reference counted and no pointer to it, and one the other way round.
func counted() {
	lost, held := &tensor{refs: 1, data: make([]float32, 1024)}, &tensor{data: make([]float32, 1024)}
	toLost, toHeld := weak.Make(lost), weak.Make(held)
	lost = nil
	runtime.GC()
	runtime.GC()
	fmt.Printf("count 1, no pointer: %s\n", state(toLost))
	fmt.Printf("count 0, a pointer: %s\n", state(toHeld))
	runtime.KeepAlive(held)
}

func state(to weak.Pointer[tensor]) string {
	if to.Value() == nil {
		return "collected"
	}
	return "there"
}

// aligned prints what Alignof says of the types that numbers are kept in.
func aligned() {
	var number float32
	var line [16]float32
	var tile [1024]float32
	var slice []float32
	var header tensor
	fmt.Println("float32", unsafe.Alignof(number))
	fmt.Println("[16]float32", unsafe.Alignof(line))
	fmt.Println("[1024]float32", unsafe.Alignof(tile))
	fmt.Println("[]float32", unsafe.Alignof(slice))
	fmt.Println("struct", unsafe.Alignof(header))
}

// shared writes through a part of a slice.
func shared() {
	whole := make([]float32, 4)
	part := whole[1:3]
	part[0] = 7
	fmt.Println(whole[1])
}

// dispatch gives ten tasks to a worker that is busy and one that has room, as a dispatcher does that must not wait.
func dispatch() {
	busy, free := make(chan int), make(chan int, 100)
	workers := []chan int{busy, free}
	lost := 0
	for i := range 10 {
		select {
		case workers[i%len(workers)] <- i:
		default:
			lost++
		}
	}
	fmt.Printf("taken %d, lost %d, room %d\n", len(free), lost, cap(free)-len(free))
}

// workers has one worker come and one go, with a channel for each of them, or one for all.
func workers() {
	joined := 0
	if os.Args[2] == "one" {
		tasks, left := make(chan int), make(chan bool)
		work := func(took *int) {
			for {
				select {
				case <-tasks:
					*took++
				case <-left:
					return
				}
			}
		}
		var first, second int
		go work(&first)
		go work(&second)
		left <- true // one that goes
		left <- true
		var all sync.WaitGroup
		all.Go(func() { work(&joined) }) // one that comes
		for i := range 10 {
			tasks <- i
		}
		left <- true
		all.Wait()
		fmt.Printf("one: who came took %d of 10\n", joined)
		return
	}
	dispatch := func(workers []chan int) (said any) {
		defer func() { said = recover() }()
		for i := range 10 {
			select {
			case workers[i%len(workers)] <- i:
			default:
			}
		}
		return nil
	}
	team := []chan int{make(chan int, 100), make(chan int, 100)}
	given := team // what the dispatcher was started with
	team = append(team, make(chan int, 100))
	fmt.Printf("each: %v\n", dispatch(given))
	joined = len(team[2])
	fmt.Printf("each: who came took %d of 10\n", joined)
	close(team[1])
	fmt.Printf("after one has gone: %v\n", dispatch(given))
	fmt.Printf("after all have gone: %v\n", dispatch(nil))
}

// encoded puts a channel into what goes to another process.
func encoded() {
	message := map[string]any{"tasks": make(chan *tensor)}
	_, err := json.Marshal(message)
	fmt.Println("json:", err)
	fmt.Println("gob:", gob.NewEncoder(new(bytes.Buffer)).Encode(make(chan *tensor)))
}

// panics has a worker that fails, and a main program that recovers.
func panics() {
	defer func() { fmt.Println("recovered in main:", recover()) }()
	results := make(chan int)
	go func() {
		panic("the worker fails")
	}()
	<-results
}
