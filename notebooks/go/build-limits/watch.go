// Command watch does what an editor or a rebuild-on-save tool does: it asks the kernel to report
// changes in every directory below a root. It says how many watches that took.
//
// With -fill N it makes N files in the root and watches each, as the user -as, until the kernel
// refuses one. Watches are counted for each user, so that no other user's programs are disturbed.
package main

import (
	"flag"
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
	fill := flag.Int("fill", 0, "files to make and to watch; 0 watches the directories that are there")
	user := flag.Int("as", os.Getuid(), "user to watch as")
	flag.Parse()

	paths, err := directories(flag.Arg(0))
	if *fill > 0 {
		paths, err = files(flag.Arg(0), *fill)
	}
	if err == nil && *user != os.Getuid() {
		err = syscall.Setuid(*user)
	}
	if err != nil {
		log.Fatal(err)
	}
	inotify, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	if err != nil {
		log.Fatalf("inotify_init1: %v", err)
	}
	for i, path := range paths {
		if _, err := syscall.InotifyAddWatch(inotify, path, changes); err != nil {
			fmt.Printf("%d watches, then inotify_add_watch: %v\n", i, err)
			return
		}
	}
	fmt.Printf("%d watches\n", len(paths))
}

func directories(root string) (paths []string, err error) {
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	return paths, err
}

func files(root string, count int) (paths []string, err error) {
	for i := 0; i < count; i++ {
		path := filepath.Join(root, fmt.Sprint(i))
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}
