// SPDX-License-Identifier: Apache-2.0

//go:build lab

package mirror

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// place is a real domain and a mirror of it in this process, which speaks to the
// domain controller from inside a box.
type place struct {
	*lab.Domain
	*box
	client *directory.Client
}

func labPlace(t *testing.T, d *lab.Domain) *place {
	t.Helper()
	nas := d.StartBox(t, "nas1", lab.BoxOptions{})
	client := labClient(t, d.DNS, d.DC.IP(), nas.Dial)
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "latchkey.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil {
			t.Errorf("after the test: %v", err)
		}
		s.Close()
	})
	p := &place{Domain: d, client: client, box: &box{t: t, store: s}}
	p.m = New(Config{Store: s, Directory: LDAP(client), AnswerTimeout: 5 * time.Second})
	p.policy()
	return p
}

func labClient(t testing.TB, domain, dc string, dial func(context.Context, string, string) (net.Conn, error)) *directory.Client {
	t.Helper()
	addr := netip.MustParseAddr(dc)
	locator, err := directory.NewLocator(directory.LocatorConfig{Domain: domain, DNS: []netip.AddrPort{netip.AddrPortFrom(addr, 0)}, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	k := kerberos.NewClient(kerberos.Config{Realm: strings.ToUpper(domain), Servers: locator, Dial: dial})
	session := kerberos.NewSession(k, kerberos.Enterprise(lab.UserName(1)+"@contoso.test", strings.ToUpper(domain)), kerberos.Password(secret.FromString(lab.UserPassword(1))))
	c := directory.NewClient(directory.Config{Locator: locator, Credential: session, Dial: dial})
	t.Cleanup(func() { _ = c.Close(); session.Close() })
	return c
}

// policy tells the store of the domain as it is now.
func (p *place) policy() {
	p.t.Helper()
	setPolicy(p.t, p.store, identity.Domain{NetBIOS: p.NetBIOS, DNS: p.DNS, Realm: p.Realm(), SID: identity.MustParseSID(p.SID())})
}

func setPolicy(t testing.TB, s *store.Store, d identity.Domain) {
	t.Helper()
	ids, err := idmap.New(idmap.Config{}, d.SID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPolicy(context.Background(), store.Policy{Domain: d, IDs: ids, Reserved: idmap.Privileged()}); err != nil {
		t.Fatal(err)
	}
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// who returns a user by any name.
func (p *place) who(name string) *identity.User {
	p.t.Helper()
	e, err := p.entry(identity.Key{Kind: identity.ByName, Name: name})
	if err != nil || e.User == nil {
		p.t.Fatalf("%s: %+v, %v", name, e, err)
	}
	return e.User
}

func (p *place) member(name, group string) (yes bool) {
	p.t.Helper()
	u := p.who(name)
	p.must(p.store.View(p.t.Context(), func(v *store.View) error {
		g, err := v.Get(identity.Key{Kind: identity.ByName, Name: group}, identity.KindGroup)
		if err == nil {
			yes = v.IsMember(u.Row, g.Group.Row)
		}
		return err
	}))
	return yes
}

func TestLabMirror(t *testing.T) {
	p := labPlace(t, lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}}))
	ctx := t.Context()
	res := p.sync(Request{})
	t.Logf("first pass: %+v", res)
	if !res.Full || res.Added < 240 || res.DC != p.DC.FQDN() {
		t.Errorf("first pass %+v", res)
	}
	want, err := p.Find(ctx, "user00007")
	p.must(err)
	u := p.who("USER00007@contoso.test")
	rid, _ := want.SID.RID()
	if u.Name != "user00007" || u.SID != want.SID || u.ObjectGUID != want.GUID || u.OID.String() != want.OID || u.UID != identity.UID(100000001+rid) || u.GID != 100000514 || u.State != 0 {
		t.Errorf("user00007 is %+v", u)
	}
	p.must(p.store.View(ctx, func(v *store.View) error {
		in, all := 0, 0
		for _, id := range v.GroupsOf(p.who("user00000").Row) {
			e, _ := v.Row(id)
			all++
			if strings.HasPrefix(e.Group.Name, "group") {
				in++
			}
		}
		c, err := v.Counts()
		t.Logf("%+v", c)
		if in != 40 || all < 42 || c.Users < 200 || c.Groups < 41 || c.Builtin == 0 || c.UnpublishedUsers != 0 {
			t.Errorf("user00000 is in %d of the 40 groups, in %d altogether; %+v", in, all, c)
		}
		return err
	}))
	if !p.member("user00150", "everyone-big") || !p.member("user00150", "domain users") || !p.member("user00150", `BUILTIN\Users`) {
		t.Error("user00150 lacks a group")
	}
	if st := p.m.Status(); len(st.Problems) != 0 || st.Skew.Abs() > time.Minute {
		t.Errorf("status %+v", st)
	}

	t.Run("rename, move, disable", func(t *testing.T) {
		uid, ou := p.who("user00010").UID, ""
		p.must(p.Rename(ctx, "user00010", "Renamed Person"))
		p.must(p.Disable(ctx, "user00011", true))
		p.must(p.SwapNames(ctx, "user00012", "user00013"))
		one, two := p.who("user00012").UID, p.who("user00013").UID
		res := p.sync(Request{})
		if res.Full || res.Changed != 4 || res.Added != 0 {
			t.Errorf("pass %+v", res)
		}
		if p.who("renamed person").UID != uid || p.named("user00010") != "" {
			t.Error("the rename did not arrive")
		}
		if !p.who("user00011").State.Has(identity.Disabled) {
			t.Error("the disabled account is not marked")
		}
		if p.who("user00012").UID != two || p.who("user00013").UID != one {
			t.Error("the names were not swapped")
		}
		ou, err := p.AddOU(ctx, "Machines")
		p.must(err)
		p.must(p.Move(ctx, "user00014", ou))
		service, err := p.AddUser(ctx, lab.User{Name: "svc-backup", Parent: ou, OID: p.who("user00015").OID.String()})
		p.must(err)
		p.sync(Request{})
		if u := p.who("user00014"); !u.OID.IsZero() || !strings.Contains(u.DN, "OU=Machines") {
			t.Errorf("moved out: %+v", u)
		}
		if u := p.who("svc-backup"); u.SID != service.SID || !u.OID.IsZero() || u.UID == 0 || p.who("user00015").State != 0 {
			t.Errorf("a row of a custom OU: %+v", u)
		}
	})

	t.Run("members", func(t *testing.T) {
		if p.member("user00020", "group0001") {
			p.must(p.RemoveMembers(ctx, "group0001", "user00020"))
			p.sync(Request{})
		}
		p.must(p.AddMembers(ctx, "group0001", "user00020"))
		p.must(p.AddMembers(ctx, "group0002", "group0001"))
		p.must(p.AddMembers(ctx, "group0001", "group0002")) // a loop
		p.sync(Request{})
		if !p.member("user00020", "group0001") || !p.member("user00020", "group0002") {
			t.Error("the new member is in neither")
		}
		p.must(p.SetPrimaryGroup(ctx, "user00021", "group0003"))
		p.sync(Request{})
		g, err := p.entry(identity.Key{Kind: identity.ByName, Name: "group0003"})
		p.must(err)
		if u := p.who("user00021"); u.GID != g.Group.GID || !p.member("user00021", "group0003") {
			t.Errorf("primary group: %+v", u)
		}
	})

	t.Run("deleted, and re-created with the same oid", func(t *testing.T) {
		gone, again := p.who("user00030"), p.who("user00031")
		p.must(p.Delete(ctx, "user00030"))
		_, err := p.Recreate(ctx, "user00031", "")
		p.must(err)
		p.sync(Request{})
		if u := p.who("user00031"); u.Row != again.Row || u.UID != again.UID || u.SID == again.SID || !slices.Equal(u.PastSIDs, []identity.SID{again.SID}) || !p.member("user00031", "everyone-big") {
			t.Errorf("re-created: %+v", u)
		}
		if res := p.sweep(); res.Removed != 1 || p.named("user00030") != "" {
			t.Errorf("the sweep: %+v", res)
		}
		_, err = p.AddUser(ctx, lab.User{Name: "user00030", OID: gone.OID.String()})
		p.must(err)
		p.sync(Request{})
		if u := p.who("user00030"); u.UID != gone.UID || u.SID == gone.SID {
			t.Errorf("back in scope: %+v", u)
		}
	})

	t.Run("refresh before a sign-in", func(t *testing.T) {
		if !p.member("user00000", "group0005") {
			t.Fatal("user00000 is not in group0005")
		}
		p.must(p.RemoveMembers(ctx, "group0005", "user00000"))
		p.must(p.SetAttr(ctx, "user00000", "displayName", []byte("Fresh")))
		e, err := p.m.RefreshOne(ctx, identity.Key{Kind: identity.ByName, Name: "user00000"})
		if err != nil || e.User.DisplayName != "Fresh" || p.member("user00000", "group0005") {
			t.Errorf("%+v, %v", e.User, err)
		}
		_, err = p.AddUser(ctx, lab.User{Name: "brandnew", OID: "11111111-2222-3333-4444-555555555555"})
		p.must(err)
		if e, err := p.m.RefreshOne(ctx, identity.Key{Kind: identity.ByName, Name: "brandnew@contoso.test"}); err != nil || e.User.UID == 0 || e.User.Name != "brandnew" {
			t.Errorf("%+v, %v", e.User, err)
		}
		if _, err := p.m.RefreshOne(ctx, identity.Key{Kind: identity.ByName, Name: "nobody"}); !fault.Is(err, fault.NotFound) {
			t.Errorf("nobody: %v", err)
		}
	})

	t.Run("two live objects with one oid", func(t *testing.T) {
		was := p.who("user00040")
		_, err := p.AddUser(ctx, lab.User{Name: "twin", OID: was.OID.String()})
		p.must(err)
		p.sync(Request{})
		if _, err := p.entry(identity.Key{Kind: identity.ByOID, GUID: was.OID}); !fault.Is(err, fault.Conflict) {
			t.Errorf("the oid: %v", err)
		}
		if pr := p.m.Status().Problems; len(pr) != 1 || pr[0].ID != ProblemConflict {
			t.Errorf("problems %+v", pr)
		}
		p.must(p.Delete(ctx, "twin"))
		p.sweep()
		p.sweep()
		if u := p.who("user00040"); u.State != 0 || u.UID != was.UID {
			t.Errorf("resolved to %+v", u)
		}
	})

	t.Run("a full pass finds the same", func(t *testing.T) {
		if res := p.sync(Request{Full: true}); res.Added+res.Changed+res.Removed+res.Held != 0 {
			t.Errorf("full pass %+v", res)
		}
	})
}

func TestLabNotification(t *testing.T) {
	p := labPlace(t, lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 20, Groups: 5}}))
	p.m = New(Config{Store: p.store, Directory: LDAP(p.client), Interval: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.m.Run(ctx) }()
	until := func(what string, reached func() bool) {
		t.Helper()
		began := time.Now()
		for !reached() {
			if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
				t.Fatalf("%s: never", what)
			}
		}
		t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
	}
	until("complete", func() bool { return p.m.Status().Complete })
	pause(ctx, 2*time.Second) // the subscription stands
	p.must(p.SetAttr(ctx, "user00003", "displayName", []byte("Told By The DC")))
	until("the change", func() bool { return p.who("user00003").DisplayName == "Told By The DC" })

	p.must(p.DC.Stop(ctx))
	until("unreachable", func() bool {
		if !p.m.Status().UnreachableSince.IsZero() {
			return true
		}
		_, _ = p.m.Sync(ctx, Request{}, nil)
		return false
	})
	if p.who("user00003").Name != "user00003" {
		t.Error("lookups stopped with the DC")
	}
	p.must(p.DC.Start(ctx))
	until("reachable again", func() bool { return p.m.Status().UnreachableSince.IsZero() })
	p.must(p.SetAttr(ctx, "user00003", "displayName", []byte("After The Outage")))
	until("a change after the outage", func() bool { return p.who("user00003").DisplayName == "After The Outage" })
	cancel()
	<-done
}
