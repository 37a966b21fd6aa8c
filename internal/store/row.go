// SPDX-License-Identifier: Apache-2.0

package store

import (
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Entry is one row: exactly one of User and Group is set. The caller owns it.
type Entry struct {
	User  *identity.User
	Group *identity.Group
}

// Common returns what users and groups share; nil for the empty entry.
func (e Entry) Common() *identity.Common {
	switch {
	case e.User != nil:
		return &e.User.Common
	case e.Group != nil:
		return &e.Group.Common
	}
	return nil
}

// Kind returns what the entry is; 0 for the empty entry.
func (e Entry) Kind() identity.Kind {
	switch {
	case e.User != nil:
		return identity.KindUser
	case e.Group != nil:
		return identity.KindGroup
	}
	return 0
}

// Row is an entry with what only the mirror and the store know about it.
//
// The mirror sets what the directory says. The store sets Row, Name, Aliases,
// Unpublished, Created, Changed, ID, Moved and the UID and GID fields; whatever
// a caller puts there is not looked at.
type Row struct {
	Entry
	ID     uint32 // the number given to the row, for life; 0: none yet
	Moved  bool   // ID does not follow the arithmetic
	Missed uint32 // sweeps in a row that did not see the object
	Gone   bool   // the row is in its grave: it is nobody, but its id and SIDs stay

	unknown []byte // fields that a newer version wrote
}

// NewUser returns an empty user to be put.
func NewUser() *Row { return &Row{Entry: Entry{User: &identity.User{}}} }

// NewGroup returns an empty group to be put.
func NewGroup() *Row { return &Row{Entry: Entry{Group: &identity.Group{}}} }

// Clone returns a copy that shares no memory that either could change.
func (r *Row) Clone() *Row {
	c := *r
	if r.User != nil {
		u := *r.User
		u.SSHKeys = clip(u.SSHKeys)
		c.User = &u
	}
	if r.Group != nil {
		g := *r.Group
		g.ForeignMembers = clip(g.ForeignMembers)
		c.Group = &g
	}
	common := c.Common()
	common.PastSIDs = clip(common.PastSIDs)
	common.HistorySIDs = clip(common.HistorySIDs)
	common.Aliases = clip(common.Aliases)
	return &c
}

// clip makes the next append copy.
func clip[T any](s []T) []T { return s[:len(s):len(s)] }

// isBuiltin reports whether the row is a group of the domain controllers' own
// (S-1-5-32-…): it has no meaning, and gets no id, on another machine.
func (r *Row) isBuiltin() bool {
	return r.Group != nil && (r.Group.Scope == identity.ScopeBuiltin || r.Group.SID.In(builtinDomain))
}

// isUnix reports whether the row may have an id: a user, or a security group of
// the domain.
func (r *Row) isUnix() bool {
	return r.User != nil || r.Group != nil && r.Group.Security && !r.isBuiltin()
}

var builtinDomain = identity.MustParseSID("S-1-5-32")
