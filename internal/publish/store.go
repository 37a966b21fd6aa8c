// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// FromStore gives the rows of a store, one consistent view at a time, for
// Options.Rows.
func FromStore(s *store.Store) func(context.Context, func(Rows) error) error {
	return func(ctx context.Context, fn func(Rows) error) error {
		return s.View(ctx, func(v *store.View) error { return fn(storeRows{v}) })
	}
}

type storeRows struct{ *store.View }

func (r storeRows) Users(fn func(*identity.User) error) error {
	return r.Each(identity.KindUser, func(e store.Entry) error { return fn(e.User) })
}

func (r storeRows) Groups(fn func(*identity.Group) error) error {
	return r.Each(identity.KindGroup, func(e store.Entry) error { return fn(e.Group) })
}

func (r storeRows) Group(key identity.Key) (*identity.Group, error) {
	e, err := r.Get(key, identity.KindGroup)
	return e.Group, err
}
