// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Position is a place in the log of changes. Epoch names the file: a position
// of another file is too old, whatever its number.
type Position struct {
	Epoch uint64
	Seq   uint64 // of the last change before this place; 0 is before the first
}

// Change is one change of one row.
type Change struct {
	Seq  uint64
	Row  identity.RowID
	Kind identity.Kind
	// Deleted: the row is gone, and SID, OID, ObjectGUID and Name are what it
	// had. Otherwise ask for the row: it may have changed again since.
	Deleted    bool
	Membership bool // the members of the group, or the groups of the user, changed
	SID        identity.SID
	OID        identity.GUID
	ObjectGUID identity.GUID
	Name       string
}

// Changes returns up to limit changes after a position, oldest first, none when
// there is nothing newer. A row that changed several times may be told of once.
// fault.NotFound: the log does not reach so far back, or it is another file's.
func (s *Store) Changes(ctx context.Context, after Position, limit int) ([]Change, error) {
	return nil, errUnbuilt
}

// Position returns where the log ends now.
func (s *Store) Position() Position { return Position{} }

// Subscribe returns a channel that is sent to after each transaction that
// changed rows; wake-ups that nobody took are one. cancel ends it.
func (s *Store) Subscribe() (wake <-chan struct{}, cancel func()) { return nil, func() {} }
