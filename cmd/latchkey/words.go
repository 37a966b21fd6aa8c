// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// number prints an id; "-" for none.
func number(n uint32) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// states lists account states in words.
func states(all []latchkeyv1.AccountState) string {
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = word(s)
	}
	return strings.Join(words, ", ")
}

// reasons explains the reasons that the daemon gives for a row without a bare name.
var reasons = map[string]string{
	"empty": "the account has no name", "too-long": "longer than 255 bytes", "digits": "all digits: it would be taken for a number",
	"leading-character": "begins with a character that means something else", "character": "has a character that no name may have",
	"local": "an account of this machine has that name", "privileged": "the name carries privilege on this machine",
	"collision": "another row has that name", "no-id": "no number is free for it", "no-primary-group": "its primary group has no number",
	"conflict": "two live objects carry its Entra object id", "distribution": "a distribution group: it is no unix group",
	"builtin": "a group of the domain controllers themselves",
}

// reason puts a reason into words; one that this program does not know is
// shown as it is.
func reason(code string) string {
	if text := reasons[code]; text != "" {
		return text
	}
	return code
}

// some lists the first few of many, and says how to see the rest.
func some(all []string, most int, how string) string {
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more: see `%s`", strings.Join(all[:most], ", "), len(all)-most, how)
}
