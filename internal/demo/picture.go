// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The recording's shape: a terminal of this many columns and rows, each scene
// shown so long that it can be read.
const (
	columns   = 118
	rows      = 34
	cellWidth = 8.4
	lineHight = 18.0
	margin    = 14.0
	perScene  = 4.0 // seconds, and a little more for each line
	perLine   = 0.22
)

var sgr = regexp.MustCompile("\x1b\\[([0-9;]*)m")

// picture renders what the last tour printed as an animated SVG: the README's
// recording shows what the product did, never what somebody typed.
func picture(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("no recorded tour: %w; run make demo first", err)
	}
	var scenes [][]string
	for _, s := range strings.Split(string(text), "\x1b[1m# ")[1:] {
		var lines []string
		for line := range strings.Lines(strings.TrimRight("\x1b[1m# "+s, "\n ")) {
			lines = append(lines, wrap(strings.TrimSuffix(line, "\n"))...)
		}
		if len(lines) > rows {
			lines = append(lines[:rows-1], "...")
		}
		scenes = append(scenes, lines)
	}
	if len(scenes) == 0 {
		return fmt.Errorf("%s holds no scene", from)
	}
	total := 0.0
	for _, s := range scenes {
		total += perScene + perLine*float64(len(s))
	}
	var b bytes.Buffer
	width, height := columns*cellWidth+2*margin, rows*lineHight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14">
<rect width="100%%" height="100%%" rx="8" fill="#16181d"/>
<style>text{fill:#d7dae0;white-space:pre}.b{font-weight:bold;fill:#fff}.g{fill:#7ec699}.s{opacity:0;animation:%.1fs linear infinite}
`, width, height, total)
	at := 0.0
	for i, s := range scenes {
		long := perScene + perLine*float64(len(s))
		from, to := 100*at/total, 100*(at+long)/total
		fmt.Fprintf(&b, "@keyframes k%d{0%%,%.3f%%{opacity:0}%.3f%%,%.3f%%{opacity:1}%.3f%%,100%%{opacity:0}}.k%d{animation-name:k%d}\n",
			i, max(from-0.01, 0), from, max(to-0.02, from), min(to-0.01, 99.99), i, i)
		at += long
	}
	b.WriteString("</style>\n")
	for i, s := range scenes {
		fmt.Fprintf(&b, "<g class=\"s k%d\">\n", i)
		for n, line := range s {
			fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%.1f\">%s</text>\n", margin, margin+lineHight*float64(n)+13, spans(line))
		}
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(to, b.Bytes(), 0o644)
}

// wrap breaks a line as a terminal does.
func wrap(line string) (out []string) {
	var b strings.Builder
	used := 0
	for len(line) > 0 {
		if m := sgr.FindStringIndex(line); m != nil && m[0] == 0 {
			b.WriteString(line[:m[1]])
			line = line[m[1]:]
			continue
		}
		_, n := utf8.DecodeRuneInString(line)
		if used == columns {
			out, used = append(out, b.String()), 0
			b.Reset()
		}
		b.WriteString(line[:n])
		line, used = line[n:], used+1
	}
	return append(out, b.String())
}

// spans turns one line with bold and green into tspans.
func spans(line string) string {
	var out strings.Builder
	class := ""
	put := func(text string) {
		text = strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' {
				return -1
			}
			return r
		}, strings.ReplaceAll(text, "\t", "    "))
		if text == "" {
			return
		}
		var escaped bytes.Buffer
		_ = xml.EscapeText(&escaped, []byte(text)) // a Buffer does not fail
		if class == "" {
			out.Write(escaped.Bytes())
			return
		}
		fmt.Fprintf(&out, `<tspan class="%s">%s</tspan>`, class, escaped.Bytes())
	}
	last := 0
	for _, m := range sgr.FindAllStringSubmatchIndex(line, -1) {
		put(line[last:m[0]])
		switch line[m[2]:m[3]] {
		case "1":
			class = "b"
		case "32":
			class = "g"
		default:
			class = ""
		}
		last = m[1]
	}
	put(line[last:])
	return out.String()
}
