// SPDX-License-Identifier: Apache-2.0

//go:build docs

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
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
	if err := os.WriteFile(filepath.Join(man, "latchkey.toml.5"), md2man.Render([]byte(configPage())), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "latchkey.toml.example"), []byte(config.Example()), 0o644)
}

// configPage is latchkey.toml(5) in Markdown.
func configPage() string {
	var b strings.Builder
	b.WriteString("# latchkey.toml 5 \"\" latchkey latchkey\n\n# NAME\n\nlatchkey.toml - settings of latchkeyd(8)\n\n# DESCRIPTION\n\n" +
		"/etc/latchkey/latchkey.toml is optional; without it every key has its default. The daemon never writes it. What " +
		"**latchkey config set** changes is kept in /var/lib/latchkey/conf.d and read after it. An unknown key or a bad value refuses " +
		"the start, with its line; at a reload the old settings stay in force. **latchkey config check** tells beforehand.\n\n# KEYS\n\n")
	for _, k := range config.Keys() {
		fmt.Fprintf(&b, "**%s**\n:   %s", k.Name, k.Doc)
		if len(k.Words) > 0 {
			fmt.Fprintf(&b, " One of: %s.", strings.Join(k.Words, ", "))
		}
		fmt.Fprintf(&b, " The value %s.\n\n", k.Effect)
	}
	b.WriteString("# SEE ALSO\n\nlatchkey(1), latchkeyd(8)\n")
	return b.String()
}
