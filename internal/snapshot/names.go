// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// CheckName refuses a published name that would break a line of getent, be
// taken for a number or an option, or not be one name: empty, over MaxName
// bytes, not UTF-8, with a control character or one of ":/,". A bare name, one
// without a backslash, may also not begin with one of "-+~#%", hold "@" or be
// all digits. With a backslash there is a domain before it and a name after it.
func CheckName(name string) error {
	if err := checkText("name", name, MaxName); err != nil {
		return err
	}
	domain, bare, qualified := strings.Cut(name, `\`)
	switch {
	case name == "":
		return fault.New(fault.Malformed, "the name is empty")
	case strings.ContainsAny(name, ":/,"):
		return fault.Errorf(fault.Malformed, "the name %q has one of the characters :/,", name)
	case qualified && (domain == "" || bare == "" || strings.Contains(bare, `\`)):
		return fault.Errorf(fault.Malformed, "the name %q is not DOMAIN\\name", name)
	case strings.ContainsRune("-+~#%", rune(name[0])):
		return fault.Errorf(fault.Malformed, "the name %q begins with %q", name, name[0])
	case !qualified && strings.Contains(name, "@"):
		return fault.Errorf(fault.Malformed, "the name %q has an @", name)
	case !qualified && isNumber(name):
		return fault.Errorf(fault.Malformed, "the name %q is a number", name)
	}
	return nil
}

// CheckAlias refuses an alias that nobody could ask for, or that would shadow
// an id: empty, over MaxKey bytes, not UTF-8, with a control character or a
// colon, all digits.
func CheckAlias(alias string) error {
	if err := checkText("alias", alias, MaxKey); err != nil {
		return err
	}
	switch {
	case alias == "":
		return fault.New(fault.Malformed, "the alias is empty")
	case strings.Contains(alias, ":"):
		return fault.Errorf(fault.Malformed, "the alias %q has a colon", alias)
	case isNumber(alias):
		return fault.Errorf(fault.Malformed, "the alias %q is a number", alias)
	}
	return nil
}

// CheckField refuses a gecos, directory or shell that would break a line of
// getent: over MaxField bytes, not UTF-8, with a control character or a colon.
func CheckField(field string) error {
	if err := checkText("field", field, MaxField); err != nil {
		return err
	}
	if strings.Contains(field, ":") {
		return fault.Errorf(fault.Malformed, "the field %.200q has a colon", field)
	}
	return nil
}

func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fault.Errorf(fault.Malformed, "the %s is longer than %d bytes", what, limit)
	}
	plain := true
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == 0x7f {
			return fault.Errorf(fault.Malformed, "the %s %.200q has a control character", what, s)
		}
		plain = plain && s[i] < utf8.RuneSelf
	}
	if !plain && !utf8.ValidString(s) {
		return fault.Errorf(fault.Malformed, "the %s %.200q is not UTF-8", what, s)
	}
	return nil
}

// Bare reports whether a name or alias is one without a domain, as a local
// account's name is.
func Bare(name string) bool { return !strings.ContainsAny(name, `\@`) }

// Lower is what a reader does to a name that it is asked for: every rune in
// lower case, by the simple mappings of Unicode, and nothing else. The C module
// has the same table.
func Lower(name string) string { return strings.ToLower(name) }

// appendKeys appends the forms under which a name is indexed, so that Lower of a question
// meets one of them. The first is identity.Fold of the name and is the name's
// own; the others exist for names beyond ASCII only. What is guaranteed: a name
// is found in any mixture of cases when it is written in NFC, in NFD, or
// exactly as given here. A mixture of composed and decomposed letters is found
// only if it is the given spelling, and a letter such as the final sigma, whose
// upper case has another lower case, not by its upper case.
func appendKeys(keys []string, name string) []string {
	first := len(keys)
	folded := identity.Fold(name)
	keys = append(keys, folded)
	if isASCII(name) {
		return keys
	}
	for _, k := range [...]string{Lower(norm.NFC.String(name)), Lower(norm.NFD.String(name)), norm.NFD.String(folded), Lower(name)} {
		if len(k) <= MaxKey && Lower(k) == k && !slices.Contains(keys[first:], k) {
			keys = append(keys, k)
		}
	}
	return keys
}

func isNumber(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
