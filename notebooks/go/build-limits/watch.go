// Command watch does what an editor or a rebuild-on-save tool does: it asks the kernel to report
// changes in every directory below a root. It says how many watches that took.
package main

import (
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"syscall"
)

const changes = syscall.IN_CREATE | syscall.IN_DELETE | syscall.IN_MODIFY | syscall.IN_MOVE

func main() {
	log.SetFlags(0)
	inotify, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	if err != nil {
		log.Fatalf("inotify_init1: %v", err)
	}
	watches := 0
	err = filepath.WalkDir(os.Args[1], func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		watches++
		_, err = syscall.InotifyAddWatch(inotify, path, changes)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d watches\n", watches)
}
