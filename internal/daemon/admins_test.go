// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// TestWhoIsAnAdministrator looks at names, groups, SIDs and what becomes of them.
func TestWhoIsAnAdministrator(t *testing.T) {
	ctx := context.Background()
	s, err := store.Open(ctx, filepath.Join(t.TempDir(), "db"), store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	domain := identity.Domain{NetBIOS: "CONTOSO", DNS: "aadds.contoso.test", Realm: "AADDS.CONTOSO.TEST", SID: identity.MustParseSID("S-1-5-21-1-2-3")}
	ids, err := idmap.New(idmap.Config{}, domain.SID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPolicy(ctx, store.Policy{Domain: domain, IDs: ids}); err != nil {
		t.Fatal(err)
	}
	guid := func(n int) identity.GUID { return identity.GUID{0: 1, 15: byte(n)} }
	user := func(n int, account string) *store.Row {
		r := store.NewUser()
		r.User.ObjectGUID, r.User.SID, r.User.Account = guid(n), domain.SID.WithRID(uint32(1000+n)), account
		r.User.PrimaryGroup = domain.SID.WithRID(513)
		return r
	}
	group := func(n int, rid uint32, account string) *store.Row {
		r := store.NewGroup()
		r.Group.ObjectGUID, r.Group.SID, r.Group.Account, r.Group.Security, r.Group.Scope = guid(n), domain.SID.WithRID(rid), account, true, identity.ScopeGlobal
		return r
	}
	ana, ben, cid, dan := user(1, "ana"), user(2, "ben"), user(3, "cid"), user(4, "dan")
	everybody, bosses, list := group(10, 513, "Domain Users"), group(11, 2001, "AAD DC Administrators"), group(12, 2002, "Newsletter")
	list.Group.Security = false
	put := func(rows ...*store.Row) {
		t.Helper()
		if err := s.Update(ctx, func(tx *store.Tx) error {
			for _, r := range rows {
				if err := tx.Put(r); err != nil {
					return err
				}
			}
			return tx.SetSync(store.Sync{Complete: true})
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(everybody, bosses, list, ana, ben, cid, dan)
	members := func(rows ...*store.Row) {
		t.Helper()
		if err := s.Update(ctx, func(tx *store.Tx) error {
			var all []store.Member
			for _, r := range rows {
				all = append(all, store.Member{GUID: r.Common().ObjectGUID})
			}
			return tx.SetMembers(bosses.Group.Row, all)
		}); err != nil {
			t.Fatal(err)
		}
	}
	members(ben, cid)
	d := &Daemon{store: s, log: slog.New(slog.DiscardHandler)}
	look := func(names ...string) *admins {
		t.Helper()
		a := &admins{}
		if err := d.findAdmins(ctx, names, a); err != nil {
			t.Fatal(err)
		}
		slices.Sort(a.uids)
		d.admins.Store(a)
		return a
	}
	who := func() (all []string) {
		for name, n := range map[string]identity.UID{"ana": 100001002, "ben": 100001003, "cid": 100001004, "dan": 100001005} {
			if d.isAdmin(n) {
				all = append(all, name)
			}
		}
		slices.Sort(all)
		return all
	}
	if d.isAdmin(100001002) {
		t.Error("somebody is before anybody was looked up")
	}
	names := []string{"ANA", "%aad dc administrators", "S-1-5-21-1-2-3-1004", "%Newsletter", "nobody", "ben@", "%*"}
	a := look(names...)
	if got := who(); !slices.Equal(got, []string{"ana", "ben", "cid", "dan"}) {
		t.Errorf("administrators: %v", got)
	}
	if !slices.Equal(a.unknown, []string{"%Newsletter", "nobody", "ben@", "%*"}) || !slices.Equal(a.users, []uint32{100001002, 100001005}) || !slices.Equal(a.groups, []uint32{100002002}) {
		t.Errorf("%+v", a)
	}
	// Disabled, out of the group; the group is still who it was.
	ana.User.State = identity.Disabled
	put(ana)
	members(cid)
	if look(names...); !slices.Equal(who(), []string{"cid", "dan"}) {
		t.Errorf("administrators: %v", who())
	}
	// A name that comes to somebody else gives nothing, but a new entry does.
	dan.User.Account = "dan2"
	eve := user(5, "nobody")
	put(dan, eve)
	if a := look("S-1-5-21-1-2-3-1004", "dan", "nobody"); !slices.Equal(who(), []string{"dan"}) || len(a.unknown) != 1 || !slices.Contains(a.uids, 100001006) {
		t.Errorf("administrators: %v, %+v", who(), a)
	}
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.Retire(eve.User.Row) }); err != nil {
		t.Fatal(err)
	}
	put(user(6, "nobody"))
	if a := look("nobody"); len(a.uids) != 0 || len(a.unknown) != 1 {
		t.Errorf("the heir of a name: %+v", a)
	}
	look()
	if a := look("nobody"); !slices.Equal(a.uids, []identity.UID{100001007}) {
		t.Errorf("written anew: %+v", a)
	}
}

// isAdmin says whether a user of the domain is among the administrators.
func (d *Daemon) isAdmin(uid identity.UID) bool {
	a := d.admins.Load()
	if a == nil {
		return false
	}
	_, ok := slices.BinarySearch(a.uids, uid)
	return ok
}
