// SPDX-License-Identifier: Apache-2.0

//go:build lab

package mirror

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
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
		if p.sweep(); p.who("user00030").State != identity.Missing {
			t.Error("the first sweep marks")
		}
		if res := p.sweep(); res.Removed != 1 || p.named("user00030") != "" {
			t.Errorf("the second sweep: %+v", res)
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

func TestLabDCDiesInTheMiddle(t *testing.T) {
	p := labPlace(t, lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}}))
	ctx := t.Context()
	died := false
	breaking := func(how func() error, r Request) error {
		died = false
		_, err := p.m.Sync(ctx, r, func(pr Progress) {
			if pr.Stage == StageRead && !died {
				died = true
				p.must(how())
			}
		})
		return err
	}
	for name, how := range map[string][2]func(context.Context) error{
		"killed": {p.DC.Kill, p.DC.Start}, "frozen": {p.DC.Freeze, p.DC.Thaw},
		"cut off": {func(ctx context.Context) error { return p.DC.Blackhole(ctx) }, p.DC.Heal},
	} {
		before := p.store.Position()
		err := breaking(func() error { return how[0](ctx) }, Request{Full: true})
		if !fault.Is(err, fault.Unreachable) || !died {
			t.Errorf("%s: %v", name, err)
		}
		if p.store.Position() != before {
			t.Errorf("%s: half a pass is in the store", name)
		}
		if p.m.Status().UnreachableSince.IsZero() {
			t.Errorf("%s: the status does not tell", name)
		}
		p.must(how[1](ctx))
		for attempt := 0; ; attempt++ {
			if _, err = p.m.Sync(ctx, Request{}, nil); err == nil {
				break
			}
			if attempt == 20 {
				t.Fatalf("%s: never again: %v", name, err)
			}
			pause(ctx, time.Second)
		}
		if p.who("user00100").UID == 0 || !p.m.Status().Complete {
			t.Errorf("%s: %+v", name, p.m.Status())
		}
	}
}

func TestLabRebuiltDomain(t *testing.T) {
	p := labPlace(t, lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 100, Groups: 20}}))
	ctx := t.Context()
	p.sync(Request{})
	before := map[identity.GUID][2]uint32{}
	p.must(p.store.View(ctx, func(v *store.View) error {
		return v.Each(identity.KindUser, func(e store.Entry) error {
			if !e.User.OID.IsZero() {
				before[e.User.OID] = [2]uint32{uint32(e.User.UID), uint32(e.User.GID)}
			}
			return nil
		})
	}))
	if len(before) < 100 {
		t.Fatalf("%d people", len(before))
	}
	p.must(p.Rebuild(ctx, "rebuilt", lab.Population{Users: 110, Groups: 20}))
	p.client = labClient(t, p.DNS, p.DC.IP(), labBox(t, p.Domain).Dial)
	p.m = New(Config{Store: p.store, Directory: LDAP(p.client)})
	p.policy()
	res := p.sync(Request{})
	t.Logf("after the rebuild: %+v", res)
	p.ids() // no number is shared
	seen := 0
	p.must(p.store.View(ctx, func(v *store.View) error {
		return v.Each(identity.KindUser, func(e store.Entry) error {
			was, ok := before[e.User.OID]
			if !ok {
				return nil
			}
			seen++
			if now := [2]uint32{uint32(e.User.UID), uint32(e.User.GID)}; now != was {
				return fmt.Errorf("%s had uid and gid %v and has %v", e.User.Account, was, now)
			}
			if len(e.User.PastSIDs) != 1 {
				return fmt.Errorf("%s has past SIDs %v", e.User.Account, e.User.PastSIDs)
			}
			return nil
		})
	}))
	if seen != len(before) || !res.Full {
		t.Errorf("%d of %d people, %+v", seen, len(before), res)
	}
	for i := range 110 {
		if u := p.who(lab.UserName(i)); u.UID == 0 || u.Unpublished != "" || !p.member(lab.UserName(i), "domain users") {
			t.Errorf("%+v", u)
		}
	}
}

func labBox(t *testing.T, d *lab.Domain) *lab.Box { return d.StartBox(t, "nas2", lab.BoxOptions{}) }

func TestLabTwoDCs(t *testing.T) {
	p := labPlace(t, lab.Start(t, lab.DomainOptions{DCs: 2, Population: lab.Population{Users: 20, Groups: 5}}))
	ctx := t.Context()
	p.sync(Request{})
	first := p.m.Status().DC
	uid := p.who("user00005").UID
	p.must(p.SetAttr(ctx, "user00005", "displayName", []byte("Seen By Both")))
	p.must(p.WaitReplicated(ctx))
	for _, dc := range p.DCs {
		if dc.FQDN() == first {
			p.must(dc.Stop(ctx))
		}
	}
	var res Result
	var err error
	for range 20 {
		if res, err = p.m.Sync(ctx, Request{}, nil); err == nil {
			break
		}
		pause(ctx, 500*time.Millisecond)
	}
	if err != nil || !res.Full || res.DC == first || res.Removed != 0 {
		t.Fatalf("the other DC: %+v, %v", res, err)
	}
	if u := p.who("user00005"); u.DisplayName != "Seen By Both" || u.UID != uid {
		t.Errorf("%+v", u)
	}
	if res := p.sync(Request{}); res.Full {
		t.Errorf("and then: %+v", res)
	}
}

func TestLabHostileBytes(t *testing.T) {
	p := labPlace(t, lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 40, Groups: 10}}))
	ctx := t.Context()
	p.sync(Request{})
	ids := p.ids()
	hostile := [][]byte{{0xff, 0xfe, 0x00}, []byte("a\nb:c"), []byte(strings.Repeat("A", 5000)), []byte("\u202eevil"), {0}, []byte("../../etc"), []byte("-rf"), []byte("4711")}
	attrs := []string{"sAMAccountName", "userPrincipalName", "displayName", "givenName", "sn", "mail", "msDS-AzureADMailNickname", "objectSid", "sIDHistory",
		"userAccountControl", "primaryGroupID", "pwdLastSet", "accountExpires", "lockoutTime", "msDS-aadObjectId"}
	// Samba's own index refuses some; each attribute gets one that it takes.
	spoil := func(name, attr string, from int) {
		var err error
		for n := range hostile {
			if err = p.SetRaw(ctx, name, attr, hostile[(from+n)%len(hostile)]); err == nil {
				return
			}
		}
		t.Errorf("%s of %s takes nothing: %v", attr, name, err)
	}
	for i, attr := range attrs {
		spoil(lab.UserName(10+i), attr, i)
	}
	for i, attr := range []string{"sAMAccountName", "groupType", "displayName", "msDS-AzureADObjectId"} {
		spoil(lab.GroupName(i), attr, i)
	}
	res, err := p.m.Sync(ctx, Request{Full: true}, nil)
	if err != nil {
		t.Fatalf("hostile bytes stop the mirror: %v", err)
	}
	t.Logf("%+v, problems %+v", res, p.m.Status().Problems)
	for id, oid := range p.ids() {
		if was, ok := ids[id]; ok && !oid.IsZero() && was != oid {
			t.Errorf("%d went from %s to %s", id, was, oid)
		}
	}
	p.who("user00030")
}

// TestLabKilled kills a process that mirrors a real domain, while the domain
// changes.
func TestLabKilled(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	nas := d.StartBox(t, "nas1", lab.BoxOptions{Binds: []lab.Bind{{Host: self, Inside: "/opt/mirror.test"}, {Host: dir, Inside: "/opt/state", Writable: true}}})
	path := filepath.Join(dir, "latchkey.db")
	domain := identity.Domain{NetBIOS: d.NetBIOS, DNS: d.DNS, Realm: d.Realm(), SID: identity.MustParseSID(d.SID())}
	number := make(map[identity.GUID]identity.UID)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	complete := 0
	for n := range kills() {
		c := nas.Command("/opt/mirror.test", "-test.run=^TestLabKillHelper$")
		c.Env = []string{"MIRROR_LAB_HELPER=" + d.DNS + "," + d.DC.IP() + "," + domain.SID.String()}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stdout = w
		proc, err := c.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		lines := bufio.NewScanner(r)
		committed, once := 0, sync.OnceFunc(func() {
			time.AfterFunc(time.Duration(rng.IntN(1200))*time.Millisecond, func() { _ = proc.Kill() })
		})
		go func() { // the domain goes on
			_ = d.SetAttr(context.Background(), lab.UserName(60+n%100), "displayName", []byte(fmt.Sprint("Turn ", n)))
			_ = d.Rename(context.Background(), lab.UserName(180-n%20), fmt.Sprint("other", n))
		}()
		for lines.Scan() {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "open":
				once()
			case "committed":
				committed, _ = strconv.Atoi(rest)
			default:
				t.Errorf("the helper says %q", lines.Text())
			}
		}
		r.Close()
		if _, err := proc.Wait(); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), path, store.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		if err := s.Check(t.Context()); err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		err = s.View(t.Context(), func(v *store.View) error {
			if v.Complete() {
				complete++
			} else if committed > 0 {
				return fmt.Errorf("%d passes were committed and the mirror is not complete", committed)
			}
			people := 0
			err := v.Each(identity.KindUser, func(e store.Entry) error {
				u := e.User
				if u.OID.IsZero() {
					return nil
				}
				people++
				if had, ok := number[u.OID]; ok && had != u.UID {
					return fmt.Errorf("%s had %d and has %d", u.OID, had, u.UID)
				}
				number[u.OID] = u.UID
				return nil
			})
			if err == nil && people < len(number) {
				err = fmt.Errorf("%d people, there were %d", people, len(number))
			}
			return err
		})
		if err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if complete == 0 || len(number) < 200 {
		t.Errorf("%d people, complete after %d of %d kills", len(number), complete, kills())
	}
}

// TestLabKillHelper is not a test: it is the process that TestLabKilled kills.
func TestLabKillHelper(t *testing.T) {
	domain, rest, ok := strings.Cut(os.Getenv("MIRROR_LAB_HELPER"), ",")
	if !ok {
		return
	}
	dc, sid, _ := strings.Cut(rest, ",")
	s, err := store.Open(t.Context(), "/opt/state/latchkey.db", store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(3)
	}
	setPolicy(t, s, identity.Domain{NetBIOS: strings.ToUpper(strings.Split(domain, ".")[0]), DNS: domain, Realm: strings.ToUpper(domain), SID: identity.MustParseSID(sid)})
	m := New(Config{Store: s, Directory: LDAP(labClient(t, domain, dc, (&net.Dialer{}).DialContext))})
	fmt.Println("open")
	for n := 1; ; n++ {
		if _, err := m.Sync(t.Context(), Request{Full: true}, nil); err != nil {
			fmt.Println("failed:", err)
			os.Exit(3)
		}
		fmt.Println("committed", n)
	}
}
