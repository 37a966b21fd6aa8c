// SPDX-License-Identifier: Apache-2.0

package smbconf

import (
	"slices"
	"strings"
)

// naming are the parameters whose values are names of users and groups. Those of
// the second kind hold one name, with its blanks.
var naming = map[string]bool{"valid users": true, "invalid users": true, "admin users": true, "write list": true, "read list": true,
	"force user": false, "force group": false}

// BareNames reads what `testparm -s -v` prints and returns the names of users and
// groups in it that say no domain, each once, in order: Samba takes such a name
// for the domain's before it looks for a local one.
func BareNames(testparm string) []string {
	var all []string
	for line := range strings.Lines(testparm) {
		name, value, ok := strings.Cut(line, "=")
		list, known := naming[plainName(name)]
		if !ok || !known {
			continue
		}
		words := []string{strings.TrimSpace(value)}
		if list {
			words = splitList(value)
		}
		for _, word := range words {
			word = strings.TrimSpace(strings.ReplaceAll(strings.TrimLeft(word, `@+&"`), `"`, ""))
			if word != "" && !strings.ContainsAny(word, `\%@`) {
				all = append(all, word)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// splitList splits a list of smb.conf(5): at blanks and commas outside quotes.
func splitList(value string) []string {
	quoted := false
	return strings.FieldsFunc(value, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && strings.ContainsRune(" \t\r\n,;", r)
	})
}
