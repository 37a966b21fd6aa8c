// SPDX-License-Identifier: Apache-2.0

package store

import "github.com/latchkey-nas/latchkey/internal/identity"

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

// View is one consistent look at the store; see [Store.View].
type View struct{}

// Position is the place in the log of changes that this view stands at.
func (v *View) Position() Position { return Position{} }

// Complete reports whether a full pass has ever gone through: only then does
// "not found" mean that nobody has the key.
func (v *View) Complete() bool { return false }

// Get returns the row that key finds; kind 0 is either kind (a uid finds users
// only, a gid groups only). Errors as [Store.User].
func (v *View) Get(key identity.Key, kind identity.Kind) (Entry, error) { return Entry{}, errUnbuilt }

// Row returns a row by its id; false when it is gone.
func (v *View) Row(id identity.RowID) (Entry, bool) { return Entry{}, false }

// IDOfSID returns the uid or gid to which a SID of sIDHistory leads: for
// ACLs, never for a sign-in. SIDs of now and before are found first.
func (v *View) IDOfSID(sid identity.SID) (id uint32, kind identity.Kind, ok bool) {
	return 0, 0, false
}

// List calls fn for the rows of one kind in the order of their published names,
// rows without a name last; from the first row after the cursor, "" being the
// beginning. fn returns false to stop. The cursor given to fn goes on after
// that row, also in a later view. A cursor that is none is fault.Malformed.
func (v *View) List(kind identity.Kind, after string, fn func(e Entry, cursor string) bool) error {
	return errUnbuilt
}

// Each calls fn for every row of one kind in the order of row ids. An error of
// fn ends it and is returned as it is.
func (v *View) Each(kind identity.Kind, fn func(Entry) error) error { return errUnbuilt }

// Search returns up to limit rows one of whose texts begins with prefix (any
// case): account names first, then UPNs, then display names, surnames and mail
// addresses; shorter matches before longer ones. kind 0 is both. more: there
// are others.
func (v *View) Search(prefix string, kind identity.Kind, limit int) (found []Entry, more bool, err error) {
	return nil, false, errUnbuilt
}

// GroupsOf returns the rows of all groups that a user is in, ascending: nested
// ones, the primary group and distribution groups included.
func (v *View) GroupsOf(user identity.RowID) []identity.RowID { return nil }

// MembersOf returns the rows of all users that a group has, ascending: through
// nested groups and by primary group too.
func (v *View) MembersOf(group identity.RowID) []identity.RowID { return nil }

// MemberCount is the length of MembersOf without making it.
func (v *View) MemberCount(group identity.RowID) int { return 0 }

// DirectMembers returns the users and groups that the directory lists as
// members, and the users whose primary group this is, ascending.
func (v *View) DirectMembers(group identity.RowID) []identity.RowID { return nil }

// IsMember reports whether a user is in a group, nested or not.
func (v *View) IsMember(user, group identity.RowID) bool { return false }

// GIDs appends to buf the gids of all unix groups a user is in, primary group
// included, ascending, each once, zero never, and returns it.
func (v *View) GIDs(user identity.RowID, buf []identity.GID) []identity.GID { return buf }

// Counts counts for `status`. The answer is kept until something changes.
func (v *View) Counts() Counts { return Counts{} }

// Counts is what there is.
type Counts struct {
	Users, Groups int
	Disabled      int // users
	Guests        int
	Conflicted    int // rows set aside because two live objects carry one oid
	Missing       int // rows not seen in the last sweep
	// UnpublishedUsers and UnpublishedGroups are rows without a bare name, and
	// Reasons says why. Distribution groups and groups of the DCs themselves
	// (BUILTIN) are counted apart: nobody expects them among unix groups.
	UnpublishedUsers, UnpublishedGroups int
	Reasons                             map[identity.Unpublished]int
	Distribution, Builtin               int
	Moved                               int // rows whose id does not follow the arithmetic
	Retired                             int // rows that are gone; their ids stay taken
}
