// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Mistake is one thing that is wrong in a file.
type Mistake struct {
	File string
	Line int    // from 1; 0: the file as a whole
	Key  string // dotted; empty: not about a key
	Text string // what is wrong, and what would be right
}

// Error returns "file:line: text".
func (m Mistake) Error() string {
	switch {
	case m.File == "":
		return m.Text
	case m.Line == 0:
		return m.File + ": " + m.Text
	}
	return fmt.Sprintf("%s:%d: %s", m.File, m.Line, m.Text)
}

// Mistakes is everything that is wrong, in the order of the files.
type Mistakes []Mistake

// Error returns one line for each mistake.
func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.Error()
	}
	return strings.Join(lines, "\n")
}

// fault returns ms as an error of the closed list; nil where nothing is wrong.
func (ms Mistakes) fault() error {
	if len(ms) == 0 {
		return nil
	}
	return &fault.Error{Kind: fault.Malformed, Op: "read the configuration", Err: ms,
		Remedy: "correct the lines above; `latchkey config check` tells when nothing is wrong any more"}
}

// nearest returns the candidate that text was most likely meant to be, or ""
// where none is near: at most a third of its letters differ.
func nearest(text string, candidates []string) string {
	if len(text) > 64 {
		return ""
	}
	best, bestDistance := "", len(text)/3+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(text), c); d < bestDistance || (d == bestDistance && best == "") {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
