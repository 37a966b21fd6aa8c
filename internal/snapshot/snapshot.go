// SPDX-License-Identifier: Apache-2.0

// Package snapshot is the file that tells every process of the machine the
// names and numbers of the domain: its layout, the builder that writes it and
// the reader that checks it. The NSS module in nss/ reads the same file in C;
// its header layout.h is generated from the types of this package.
//
// A snapshot is immutable. One word of it, Header.Live, is overwritten once:
// when a newer snapshot has taken its place.
//
//	0        +--------------------------------------------------------------+
//	         | Header, one page: who wrote it how, seed, ranges, sections   |
//	4096     +--------------------------------------------------------------+
//	         | user rows, by uid                                            |
//	         |   UserRow | name\0 *\0 gecos\0 dir\0 shell\0 | pad to 4      |
//	         |           | gids: the primary one, then the rest, ascending  |
//	         |           | pad to 8                                         |
//	         +--------------------------------------------------------------+
//	         | group rows, by gid                                           |
//	         |   GroupRow | name\0 *\0 member\0 member\0 ... | pad to 4     |
//	         |            | where each member begins, counted from name     |
//	         |            | pad to 8                                        |
//	         +--------------------------------------------------------------+
//	         | aliases: those of users, by row and key, then those of groups|
//	         |   Alias | key\0 | pad to 8                                   |
//	         +--------------------------------------------------------------+
//	         | user name index   slots of {tag, ref}                        |
//	         | uid index         slots of {uid, ref}                        |
//	         | group name index  slots of {tag, ref}                        |
//	         | gid index         slots of {gid, ref}                        |
//	         +--------------------------------------------------------------+
//
// Numbers are in the byte order of the machine that wrote the file, which is
// the machine that reads it. A ref is an offset from the start of the file in
// units of 8 bytes; ref 0 is an empty slot.
//
// An index has a home slot for every hash; entries lie in the order of their
// hashes, each in its home slot or the next free one after it, and never wrap
// around: the index ends with an empty slot. So equal content and an equal seed
// give an equal file, whatever the order in which rows came. A search starts at
// the home slot and ends at the first empty one.
//
// A name index holds one entry for every key of a row. A key is a name as
// asked, lowered rune by rune (see Keys). An entry leads to the row itself when
// the key is the published name, and else to an alias, which holds the key and
// leads to the row. A hit is a hit only when the whole key is equal.
//
// The package performs no lookup on behalf of anybody, opens no file and knows
// no store.
package snapshot

import "github.com/latchkey-nas/latchkey/internal/identity"

//go:generate go run ./gencheader ../../nss

// User is one person as the machine sees them.
type User struct {
	Name string // the published name, see CheckName
	UID  identity.UID
	GID  identity.GID // of the primary group

	Gecos string // at most MaxField bytes each, see CheckField
	Dir   string
	Shell string

	// Aliases are the other names that find the user, in any case; see
	// CheckAlias. Where two rows of one kind claim the same alias it finds
	// neither, and where it is another row's published name it finds that row.
	Aliases []string

	// Groups are the user's groups. The primary group may be among them or
	// not; it always counts. Order and repetition do not matter.
	Groups []identity.GID

	// Hidden leaves the user out of enumeration. Lookups find them.
	Hidden bool
}

// Group is one group as the machine sees it. Its members are not given here:
// they are the users that have its gid in their list, by uid, so that `id` and
// `getent group` cannot disagree.
type Group struct {
	Name    string
	GID     identity.GID
	Aliases []string // as those of a user
	Hidden  bool     // left out of enumeration
}

// Options are what a snapshot says about itself.
type Options struct {
	// Generation tells snapshots apart; a later one is greater.
	Generation uint64
	// Complete says that every row of the domain has been seen. Readers answer
	// nothing at all from a snapshot that is not complete.
	Complete bool
	// Ranges are the ids that may occur, 1 to MaxRanges of them, ascending and
	// apart. Ids that no snapshot may carry (see Refused) can lie inside.
	Ranges []Range
	// Seed keys the hash of names. It is drawn anew for every snapshot, so that
	// nobody can choose names that share one home slot.
	Seed [16]byte
}
