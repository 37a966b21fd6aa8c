// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Why a bare name, or any name, is refused. Short and stable: programs read
// them.
const (
	ReasonEmpty      identity.Unpublished = "empty"
	ReasonTooLong    identity.Unpublished = "too-long"          // over MaxName bytes
	ReasonCharacter  identity.Unpublished = "character"         // one of : / , \ @, a control character, not UTF-8, a lone . or ..
	ReasonDigits     identity.Unpublished = "digits"            // would be taken for an id
	ReasonLeading    identity.Unpublished = "leading-character" // one of - + ~ # %
	ReasonLocal      identity.Unpublished = "local"             // an account or group of this machine has it
	ReasonPrivileged identity.Unpublished = "privileged"        // it carries privilege on some machines
	ReasonCollision  identity.Unpublished = "collision"         // another row of the domain has it
)

// Why a row has no name at all, whatever its account name. The store decides
// these.
const (
	ReasonNoID         identity.Unpublished = "no-id"            // the range has no place for it
	ReasonNoPrimary    identity.Unpublished = "no-primary-group" // its primary group has no gid, or is not there
	ReasonConflict     identity.Unpublished = "conflict"         // new, and another live object carries its oid
	ReasonDistribution identity.Unpublished = "distribution"     // no unix group
	ReasonBuiltin      identity.Unpublished = "builtin"          // belongs to the domain controllers themselves
)

// MaxName is the longest name in bytes that is published, the domain before it
// included: what login programs and file systems still take.
const MaxName = 255

// Reserved holds folded names that no row may bear bare.
type Reserved struct {
	Local, Privileged map[string]struct{}
}

// Why returns why a folded bare name is reserved, "" when it is free.
func (r Reserved) Why(folded string) identity.Unpublished {
	if _, ok := r.Local[folded]; ok {
		return ReasonLocal
	}
	if _, ok := r.Privileged[folded]; ok {
		return ReasonPrivileged
	}
	return ""
}

// Name returns the name under which an account is published, and why that is
// not the bare one: the folded account name; DOMAIN\name where the bare name is
// refused; "" where that is illegal too. netbios is the domain's short name as
// the directory has it. Whether another row has the name is not asked here.
func Name(account, netbios string, reserved Reserved) (name string, why identity.Unpublished) {
	bare := identity.Fold(account)
	if why = illegal(bare); why != "" {
		return "", why
	}
	if why = refusedBare(bare); why == "" {
		why = reserved.Why(bare)
	}
	if why == "" {
		return bare, ""
	}
	return Qualified(bare, netbios), why
}

// Qualified returns DOMAIN\name, "" where that is illegal. The domain is written
// as the directory has it, the account folded.
func Qualified(bare, netbios string) string {
	if netbios == "" || illegal(netbios) != "" || illegal(bare) != "" || len(netbios)+1+len(bare) > MaxName {
		return ""
	}
	return netbios + `\` + bare
}

// illegal returns why a name cannot be published in any form.
func illegal(name string) identity.Unpublished {
	switch {
	case name == "":
		return ReasonEmpty
	case len(name) > MaxName:
		return ReasonTooLong
	case !utf8.ValidString(name) || strings.ContainsFunc(name, forbidden):
		return ReasonCharacter
	case name == "." || name == "..": // a home directory is named after it
		return ReasonCharacter
	}
	return ""
}

// forbidden characters separate fields of passwd(5), parts of paths, lists and
// domains; control characters, line separators and marks that turn the writing
// direction make a line look like what it is not.
func forbidden(r rune) bool {
	switch {
	case strings.ContainsRune(`:/,\@`, r), r == unicode.ReplacementChar, unicode.IsControl(r):
		return true
	case r == 0x2028, r == 0x2029, r == 0xfeff, r == 0x061c, r == 0x200e, r == 0x200f:
		return true
	}
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// refusedBare returns why a legal name cannot stand alone.
func refusedBare(name string) identity.Unpublished {
	switch {
	case strings.ContainsRune("-+~#%", rune(name[0])):
		return ReasonLeading
	case strings.Trim(name, "0123456789") == "":
		return ReasonDigits
	}
	return ""
}

// LegalPrincipal reports whether a UPN, or account@domain, may find a row: it
// has exactly the form user@suffix, and neither part has a character that no
// name may have.
func LegalPrincipal(name string) bool {
	user, suffix, ok := strings.Cut(name, "@")
	return ok && illegal(user) == "" && illegal(suffix) == "" && len(name) <= MaxName*2
}
