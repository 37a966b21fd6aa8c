// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// record prints "name  value" lines; empty values are left out.
type record struct{ t *tabwriter.Writer }

func (a *app) record() record { return record{tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)} }

func (r record) row(name, value string) {
	if value != "" {
		fmt.Fprintf(r.t, "%s\t%s\n", name, tame(value))
	}
}

// refusal says why a row has no bare name, or no name at all.
func (r record) refusal(code, name string) {
	switch {
	case code == "":
	case name == "":
		r.row("published", "no: "+reason(code))
	default:
		r.row("bare name", "refused: "+reason(code))
	}
}

func (r record) flush() error { return r.t.Flush() }

// grid prints a table with a heading.
type grid struct{ t *tabwriter.Writer }

func (a *app) table(heading ...string) grid {
	g := grid{tabwriter.NewWriter(&trimmer{w: a.out}, 0, 0, 2, ' ', 0)}
	_ = g.row(heading...)
	return g
}

func (g grid) row(cells ...string) error {
	for i := range cells {
		cells[i] = tame(cells[i])
	}
	_, err := fmt.Fprintln(g.t, strings.Join(cells, "\t"))
	return err
}

func (g grid) flush() error { return g.t.Flush() }

// trimmer takes away the blanks that a table has at the ends of its lines. They
// come in pieces, so blanks are kept back until it is known what follows.
type trimmer struct {
	w      io.Writer
	blanks int
}

// Write implements io.Writer.
func (t *trimmer) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p)+t.blanks)
	for _, c := range p {
		switch c {
		case ' ':
			t.blanks++
			continue
		case '\n':
			t.blanks = 0
		}
		for ; t.blanks > 0; t.blanks-- {
			out = append(out, ' ')
		}
		out = append(out, c)
	}
	if _, err := t.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// tame keeps what somebody wrote into the directory from steering a terminal
// or breaking a table: control characters become "?".
func tame(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || (r >= 0x7f && r < 0xa0) || r == '\u2028' || r == '\u2029' || (r >= '\u202a' && r <= '\u202e') || (r >= '\u2066' && r <= '\u2069') {
			return '?'
		}
		return r
	}, s)
}
