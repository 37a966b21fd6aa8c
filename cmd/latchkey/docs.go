// SPDX-License-Identifier: Apache-2.0

//go:build docs

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra/doc"

	"github.com/latchkey-nas/latchkey/internal/config"
)

// The build tag docs makes this program write the manual instead: the pages of
// its commands, latchkey.toml(5) and the example file, all from the tables that
// the program itself runs by. `make docs-gen` runs it; it never ships.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: docs DIR")
		os.Exit(2)
	}
	if err := writeDocs(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func writeDocs(dir string) error {
	man := filepath.Join(dir, "man")
	if err := os.MkdirAll(man, 0o755); err != nil {
		return err
	}
	root := newRoot(&app{console: &console{}})
	root.DisableAutoGenTag = true
	epoch := time.Unix(0, 0)
	header := &doc.GenManHeader{Section: "1", Source: "latchkey", Manual: "latchkey", Date: &epoch}
	if err := doc.GenManTree(root, header, man); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(man, "latchkey.toml.5"), []byte(configPage()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "latchkey.toml.example"), []byte(config.Example()), 0o644)
}

// configPage is latchkey.toml(5), in the language of man(7).
func configPage() string {
	return `.TH latchkey.toml 5 "" latchkey latchkey
.SH NAME
latchkey.toml \- settings of latchkeyd(8)
.SH DESCRIPTION
/etc/latchkey/latchkey.toml is optional; without it every key has its default. The daemon
never writes it. What
.B latchkey config set
changes is kept in /var/lib/latchkey/conf.d and read after it. An unknown key or a bad value
refuses the start, with its line; at a reload the old settings stay in force.
.B latchkey config check
tells beforehand.
.SH KEYS
` + config.Manual() + `.SH SEE ALSO
latchkey(1), latchkeyd(8)
`
}
