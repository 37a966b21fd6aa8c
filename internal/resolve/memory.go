// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Memory is where the mirror keeps the rows. Safe for concurrent use.
type Memory interface {
	// View calls fn with one consistent look; nothing of it is used afterwards.
	View(ctx context.Context, fn func(View) error) error
	// Position returns where the log of changes ends now. Cheap.
	Position() store.Position
	// Changes returns what changed after a position, oldest first. fault.NotFound:
	// the log does not reach so far back.
	Changes(ctx context.Context, after store.Position, limit int) ([]store.Change, error)
	// Subscribe returns a channel that is sent to after changes.
	Subscribe() (wake <-chan struct{}, cancel func())
}

// View is one consistent look at the rows; *store.View is one.
type View interface {
	Complete() bool
	Position() store.Position
	Get(key identity.Key, kind identity.Kind) (store.Entry, error)
	Row(id identity.RowID) (store.Entry, bool)
	List(kind identity.Kind, after string, fn func(e store.Entry, cursor string) bool) error
	GroupsOf(user identity.RowID) []identity.RowID
	MembersOf(group identity.RowID) []identity.RowID
	DirectMembers(group identity.RowID) []identity.RowID
	MemberCount(group identity.RowID) int
	IsMember(user, group identity.RowID) bool
	IDOfSID(sid identity.SID) (id uint32, kind identity.Kind, ok bool)
	SIDOfID(id uint32, kind identity.Kind) (identity.SID, bool)
}

// FromStore returns the memory that s is.
func FromStore(s *store.Store) Memory { return fromStore{s} }

type fromStore struct{ *store.Store }

func (m fromStore) View(ctx context.Context, fn func(View) error) error {
	return m.Store.View(ctx, func(v *store.View) error { return fn(v) })
}
