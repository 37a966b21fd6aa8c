// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// box is a store, a mirror and the directory that it mirrors.
type box struct {
	t     *testing.T
	dc    *fakeDC
	store *store.Store
	m     *Mirror
}

func newBox(t *testing.T, dc *fakeDC) *box {
	t.Helper()
	s, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "latchkey.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, dc: dc, store: s}
	b.policy()
	b.m = New(Config{Store: s, Directory: dc, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil {
			t.Errorf("after the test: %v", err)
		}
		s.Close()
	})
	return b
}

// policy tells the store of the domain as it is now.
func (b *box) policy() {
	b.t.Helper()
	ids, err := idmap.New(idmap.Config{}, b.dc.domain)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.store.SetPolicy(context.Background(), store.Policy{IDs: ids, Reserved: idmap.Privileged(),
		Domain: identity.Domain{NetBIOS: "CONTOSO", DNS: "aadds.contoso.test", Realm: "AADDS.CONTOSO.TEST", SID: b.dc.domain}}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) sync(r Request) Result {
	b.t.Helper()
	res, err := b.m.Sync(context.Background(), r, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// sweep makes an incremental pass with a sweep.
func (b *box) sweep() Result {
	b.t.Helper()
	res, err := b.m.syncNow(context.Background(), Request{}, sweepDue, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// hint makes the pass that follows a counter that moved by more than was read.
func (b *box) hint() Result {
	b.t.Helper()
	res, err := b.m.syncNow(context.Background(), Request{}, sweepHint, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

func (b *box) entry(key identity.Key) (store.Entry, error) {
	var e store.Entry
	err := b.store.View(context.Background(), func(v *store.View) (err error) {
		e, err = v.Get(key, 0)
		return err
	})
	return e, err
}

// named returns who has a name, "" when nobody has: by account.
func (b *box) named(name string) string {
	b.t.Helper()
	e, err := b.entry(identity.Key{Kind: identity.ByName, Name: name})
	if fault.Is(err, fault.NotFound) {
		return ""
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return e.Common().Account
}

func (b *box) gone(name string) {
	b.t.Helper()
	if e, err := b.entry(identity.Key{Kind: identity.ByOID, GUID: oidOf(name)}); !fault.Is(err, fault.NotFound) {
		b.t.Errorf("%s is still there: %+v, %v", name, e.Common(), err)
	}
}

// in reports whether a person is in a group.
func (b *box) in(name, group string) (yes bool) {
	b.t.Helper()
	u := b.user(name)
	if err := b.store.View(context.Background(), func(v *store.View) error {
		g, err := v.Get(identity.Key{Kind: identity.ByName, Name: group}, identity.KindGroup)
		if err == nil {
			yes = v.IsMember(u.Row, g.Group.Row)
		}
		return err
	}); err != nil {
		b.t.Fatalf("%s: %v", group, err)
	}
	return yes
}

// ids returns every number that is given, and to whom.
func (b *box) ids() map[uint32]identity.GUID {
	b.t.Helper()
	all := make(map[uint32]identity.GUID)
	err := b.store.View(context.Background(), func(v *store.View) error {
		return v.Each(0, func(e store.Entry) error {
			id := uint32(0)
			if e.User != nil {
				id = uint32(e.User.UID)
			} else {
				id = uint32(e.Group.GID)
			}
			if id == 0 {
				return nil
			}
			if other, ok := all[id]; ok {
				return fmt.Errorf("%d belongs to %s and %s", id, other, e.Common().OID)
			}
			all[id] = e.Common().OID
			return nil
		})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}
