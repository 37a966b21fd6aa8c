// SPDX-License-Identifier: Apache-2.0

package etcfile

import (
	"fmt"
	"strings"
)

// Change is one file that would change. Before is nil for a new file, After nil
// for one that goes.
type Change struct {
	Path          string // as seen from the root: "/etc/krb5.conf"
	Before, After []byte
}

// context is how many unchanged lines a diff shows around a change.
const context = 3

// Diff returns the change as a unified diff that patch(1) takes, "" when
// nothing changes. What differs is shown as one block, from the first line
// that differs to the last: our changes are in one place.
func (c Change) Diff() string {
	if string(c.Before) == string(c.After) && (c.Before == nil) == (c.After == nil) {
		return ""
	}
	a, b := lines(c.Before), lines(c.After)
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	from := max(head-context, 0)
	after := min(tail, context)
	endA, endB := len(a)-tail, len(b)-tail

	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", label(c.Path, c.Before), label(c.Path, c.After))
	fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(from, endA+after), span(from, endB+after))
	put := func(sign string, part []string) {
		for _, l := range part {
			out.WriteString(sign + l)
			if !strings.HasSuffix(l, "\n") {
				out.WriteString("\n\\ No newline at end of file\n")
			}
		}
	}
	put(" ", a[from:head])
	put("-", a[head:endA])
	put("+", b[head:endB])
	put(" ", a[endA:endA+after])
	return out.String()
}

// span prints the range of lines from (counted from 0) up to end.
func span(from, end int) string {
	if end == from {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, end-from)
}

func label(path string, content []byte) string {
	if content == nil {
		return "/dev/null"
	}
	return path
}

// lines splits text and keeps the newlines.
func lines(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	l := strings.SplitAfter(string(text), "\n")
	if l[len(l)-1] == "" {
		l = l[:len(l)-1]
	}
	return l
}
