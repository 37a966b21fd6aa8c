// SPDX-License-Identifier: Apache-2.0

// Package identity holds the words of the product: who a user is, what a group
// is, and the keys that find them.
//
// Every door, and everything between a door and the store, speaks in these
// types. The package parses, prints and compares; it performs no lookup, knows
// no protocol and decides nothing.
package identity

import "time"

// RowID is the row's own key in the store. It is given once, never reused, and
// means nothing outside this machine. Zero is no row.
type RowID uint64

// UID is a POSIX user id.
type UID uint32

// GID is a POSIX group id.
type GID uint32

// Kind tells users from groups.
type Kind uint8

// The kinds of row.
const (
	KindUser  Kind = 1
	KindGroup Kind = 2
)

// String returns "user" or "group".
func (k Kind) String() string {
	switch k {
	case KindUser:
		return "user"
	case KindGroup:
		return "group"
	}
	return "unknown kind"
}

// Domain names the domain that a row comes from.
type Domain struct {
	NetBIOS string // as "AADDSCONTOSO"
	DNS     string // lower case, as "aadds.contoso.test"
	Realm   string // upper case, as "AADDS.CONTOSO.TEST"
	SID     SID
}

// State is a set of facts about an account that limit what it may do.
type State uint16

// Account states. Their source is userAccountControl (MS-ADTS 2.2.16),
// lockoutTime, accountExpires and pwdLastSet.
const (
	Disabled        State = 1 << iota // ACCOUNTDISABLE
	LockedOut                         // lockoutTime is set; the DC decides when it ends
	AccountExpired                    // accountExpires lies in the past
	PasswordExpired                   // the password is older than the policy allows
	MustChange                        // pwdLastSet is 0
	Guest                             // a B2B guest: "#EXT#" in the UPN; it has no hash in the domain
	Conflicted                        // two live objects carry this oid: set aside until one is gone
	Missing                           // not seen in the last sweep; gone after the next
)

// Has reports whether every state in o is set.
func (s State) Has(o State) bool { return s&o == o }

// Words returns the set states as lower-case words in a fixed order.
func (s State) Words() []string {
	var w []string
	for i, name := range [...]string{"disabled", "locked out", "account expired",
		"password expired", "must change password", "guest", "conflicted", "missing"} {
		if s&(1<<i) != 0 {
			w = append(w, name)
		}
	}
	return w
}

// Unpublished says why a row has no bare name, or no place at all, in the names
// that the machine sees. Empty means that it is published under its bare name.
type Unpublished string

// Common is what users and groups share.
type Common struct {
	Row        RowID
	OID        GUID // Entra object id; zero for objects that Entra does not know
	SID        SID
	ObjectGUID GUID

	// PastSIDs are the SIDs that this row had before its object was re-created.
	// They find the row for ACLs and for sign-in never.
	PastSIDs []SID
	// HistorySIDs come from sIDHistory. They find ids for ACLs, never a person.
	HistorySIDs []SID

	// Name is the published name: what getent prints and every door answers,
	// whatever form the question had. Lower case. "DOMAIN\name" where the bare
	// name is refused; empty where even that is illegal.
	Name string
	// Account is sAMAccountName exactly as the directory has it.
	Account string
	// Aliases are the other names that find this row, lower case, without Name.
	Aliases []string

	DisplayName  string
	Mail         string
	MailNickname string // msDS-AzureADMailNickname
	DN           string

	// Unpublished is why the bare name is not published, or why the row is not
	// published at all when Name is empty.
	Unpublished Unpublished
	State       State

	Created time.Time // when the row was made here
	Changed time.Time // when anything in the row last changed here
}

// User is one person (or service account), the same for every door.
type User struct {
	Common
	UPN       string // as the directory has it; its suffix need not be the realm
	GivenName string
	Surname   string

	UID          UID
	GID          GID // of the primary group
	PrimaryGroup SID

	Gecos string
	Home  string
	Shell string

	// SSHKeys are lines of authorized_keys(5), from the attribute that the
	// configuration names.
	SSHKeys []string

	PasswordLastSet time.Time // zero: never, or must be changed
	AccountExpires  time.Time // zero: never
}

// Scope is the reach of a group (MS-ADTS 2.2.12).
type Scope uint8

// Group scopes.
const (
	ScopeUnknown Scope = iota
	ScopeDomainLocal
	ScopeGlobal
	ScopeUniversal
	ScopeBuiltin
)

// String returns the scope as Microsoft writes it, in lower case.
func (s Scope) String() string {
	switch s {
	case ScopeDomainLocal:
		return "domain-local"
	case ScopeGlobal:
		return "global"
	case ScopeUniversal:
		return "universal"
	case ScopeBuiltin:
		return "builtin"
	}
	return "unknown"
}

// Group is one group, the same for every door.
type Group struct {
	Common
	GID      GID // zero for a distribution group: it is no unix group
	Scope    Scope
	Security bool // false: a distribution group, kept for its SID and members only
	// ForeignMembers are member SIDs of other domains, kept as SIDs.
	ForeignMembers []SID
}
