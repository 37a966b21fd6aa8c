// SPDX-License-Identifier: Apache-2.0

// Command gencheader writes the C headers of the NSS module from the Go types
// of package snapshot: layout.h, the layout of the file, and lower.h, the lower
// case of every letter. `go generate ./internal/snapshot` runs it; a test fails
// while a header is not what it would write.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gencheader DIRECTORY")
		os.Exit(2)
	}
	for name, text := range headers() {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), text, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "gencheader:", err)
			os.Exit(1)
		}
	}
}
