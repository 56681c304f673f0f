// Reads URIs, a line each, and prints them as they are after what a post calls normalising: the
// scheme set to file where it is file, and the opaque part emptied.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net/url"
	"os"
	"strings"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		uri, err := url.Parse(lines.Text())
		if err != nil {
			log.Fatal(err)
		}
		if uri.Scheme == "file" && strings.Contains(uri.Path, "/home/") {
			uri.Scheme, uri.Opaque = "file", ""
		}
		fmt.Println(uri)
	}
}
