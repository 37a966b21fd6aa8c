// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// words splits a line as a shell would: blanks, and single quotes.
func words(line string) (all []string) {
	quoted, open := false, false
	var word strings.Builder
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted, open = !quoted, true
		case r == ' ' && !quoted:
			if open {
				all = append(all, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
			open = true
		}
	}
	return all
}

// Every command that does something shows an example, and every example is a
// command line of that command.
func TestExamples(t *testing.T) {
	known := map[string]bool{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if subs := c.Commands(); len(subs) > 0 {
			for _, sub := range subs {
				walk(sub)
			}
			return
		}
		path := c.CommandPath()
		known[strings.TrimPrefix(path, "latchkey ")] = true
		if c.Example == "" {
			t.Errorf("%s has no example", path)
		}
		for line := range strings.Lines(c.Example) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "#") || line == "" {
				continue
			}
			line, _, _ = strings.Cut(line, " <")
			args := words(line)
			root := newRoot(&app{console: &console{}})
			found, rest, err := root.Find(args[1:])
			if args[0] != "latchkey" || err != nil || found.CommandPath() != path {
				t.Errorf("%s: %q is no line of it: %v", path, line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %q: %v", path, line, err)
			} else if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: %q: %v", path, line, err)
			}
		}
	}
	walk(newRoot(&app{console: &console{}}))
	for name := range examples {
		if !known[name] {
			t.Errorf("an example of %q, which is no command", name)
		}
	}
}
