// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// MaxNameLength is the longest name, in bytes, that any question may carry.
const MaxNameLength = 1024

// KeyKind says by what a row is asked for.
type KeyKind uint8

// The kinds of key.
const (
	ByName KeyKind = iota + 1 // any form of name, any case
	ByUID
	ByGID
	BySID
	ByOID
	ByObjectGUID
	ByRow
)

// Key asks for one row. Only the field that Kind names is set.
type Key struct {
	Kind KeyKind
	Name string // as asked; use Fold before a lookup
	ID   uint32 // UID or GID
	SID  SID
	GUID GUID // oid or objectGUID
	Row  RowID
}

// ParseKey guesses what a person at a prompt means by text: a SID, a GUID (an
// oid), digits (an id of the given kind), or else a name.
func ParseKey(text string, kind Kind) (Key, error) {
	if sid, err := ParseSID(text); err == nil {
		return Key{Kind: BySID, SID: sid}, nil
	}
	if g, err := ParseGUID(text); err == nil && !g.IsZero() {
		return Key{Kind: ByOID, GUID: g}, nil
	}
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && text[0] != '+' {
		if kind == KindGroup {
			return Key{Kind: ByGID, ID: uint32(n)}, nil
		}
		return Key{Kind: ByUID, ID: uint32(n)}, nil
	}
	if err := CheckAsked(text); err != nil {
		return Key{}, err
	}
	return Key{Kind: ByName, Name: text}, nil
}

// CheckAsked refuses a name that cannot be anybody's: empty, over MaxNameLength
// bytes, not UTF-8, or with a control character.
func CheckAsked(name string) error {
	switch {
	case name == "":
		return fault.New(fault.Malformed, "the name is empty")
	case len(name) > MaxNameLength:
		return fault.Errorf(fault.Malformed, "the name is longer than %d bytes", MaxNameLength)
	case !utf8.ValidString(name):
		return fault.New(fault.Malformed, "the name is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return fault.New(fault.Malformed, "the name has a control character")
	}
	return nil
}

// Fold gives the form under which names are indexed and compared: NFC, lower
// case rune by rune. It is the one rule for case in the product. Pure ASCII
// that is lower case already is returned without a copy.
func Fold(name string) string {
	plain := true
	for i := 0; i < len(name); i++ {
		if c := name[i]; c >= utf8.RuneSelf || ('A' <= c && c <= 'Z') {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	return norm.NFC.String(strings.ToLower(norm.NFC.String(name)))
}
