// SPDX-License-Identifier: Apache-2.0

package smbconf

import (
	"bytes"
	"strings"
)

// Insert returns the text of an smb.conf with the include line as the last
// thing in its last [global] section, or before the first section of a file
// that has none. A text that includes the fragment already comes back as it is.
func Insert(text []byte) []byte {
	if includes(text) {
		return text
	}
	at := place(text)
	head, tail := text[:at], text[at:]
	out := make([]byte, 0, len(text)+len(marker)+len(include)+2)
	out = append(out, head...)
	if len(head) > 0 && head[len(head)-1] != '\n' {
		// The last line of the file has no end: ours has none instead.
		return append(append(out, "\n"+marker...), include...)
	}
	out = append(append(out, marker...), include+"\n"...)
	return append(out, tail...)
}

// Cut takes out what Insert put in, wherever it stands by now.
func Cut(text []byte) []byte {
	block := []byte(marker + include)
	at := bytes.Index(text, block)
	for at > 0 && text[at-1] != '\n' {
		next := bytes.Index(text[at+1:], block)
		if next < 0 {
			return text
		}
		at += 1 + next
	}
	if at < 0 {
		return text
	}
	end := at + len(block)
	switch {
	case end == len(text) && at > 0: // Insert gave the line before an end
		at--
	case end < len(text) && text[end] == '\n':
		end++
	case end < len(text): // the line goes on: not ours any more
		return text
	}
	return append(append(make([]byte, 0, len(text)), text[:at]...), text[end:]...)
}

// place returns where the line belongs: behind the last parameter, or else the
// header, of the last [global] section. What stands before the first section
// is global, too (smb.conf(5)).
func place(text []byte) int {
	at, global, goesOn, offset := 0, true, false, 0
	for line := range bytes.Lines(text) {
		end := offset + len(line)
		word := strings.TrimSpace(string(line))
		switch {
		case goesOn:
			if global {
				at = end
			}
		case strings.HasPrefix(word, "["):
			name, _, _ := strings.Cut(word[1:], "]")
			name = strings.ToLower(strings.Join(strings.Fields(name), ""))
			if global = name == "global" || name == "globals"; global {
				at = end
			}
		case word == "" || word[0] == '#' || word[0] == ';':
			offset = end
			continue
		case global:
			at = end
		}
		goesOn = strings.HasSuffix(word, `\`)
		offset = end
	}
	return at
}

// includes reports whether an active line of the text includes the fragment.
func includes(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && strings.EqualFold(strings.TrimSpace(name), "include") && strings.Trim(strings.TrimSpace(value), `"`) == Fragment {
			return true
		}
	}
	return false
}
