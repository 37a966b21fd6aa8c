// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

func TestDisabledAndOtherStates(t *testing.T) {
	dc := newFakeDC()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678900, time.UTC)
	for name, fn := range map[string]func(*directory.Object){
		"disabled": func(o *directory.Object) { o.UserAccountControl |= directory.UACDisabled },
		"locked":   func(o *directory.Object) { o.LockoutTime = at },
		"must":     func(o *directory.Object) { o.MustChange = true },
		"never":    func(o *directory.Object) { o.MustChange = true; o.UserAccountControl |= directory.UACDontExpire },
		"guest":    func(o *directory.Object) { o.UPN = "eve_fabrikam.com#EXT#@contoso.onmicrosoft.com" },
		"over":     func(o *directory.Object) { o.AccountExpires = at },
		"pwexp":    func(o *directory.Object) { o.UserAccountControl |= directory.UACPasswordExpired },
		"plain":    func(o *directory.Object) { o.PwdLastSet = at },
	} {
		dc.change(dc.user(name), fn)
	}
	b := newBox(t, dc)
	b.sync(Request{})
	for name, want := range map[string]identity.State{
		"disabled": identity.Disabled, "locked": identity.LockedOut, "must": identity.MustChange, "never": 0, "guest": identity.Guest,
		"over": identity.AccountExpired, "pwexp": identity.PasswordExpired, "plain": 0,
	} {
		u := b.user(name)
		if u.State != want || u.UID == 0 || u.Name != name {
			t.Errorf("%s: %v, %q, uid %d", name, u.State.Words(), u.Name, u.UID)
		}
	}
	if u := b.user("plain"); !u.PasswordLastSet.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("password set %v", u.PasswordLastSet)
	}
	if res := b.sync(Request{Full: true}); res.Changed != 0 {
		t.Errorf("again: %+v", res)
	}
}

func TestGroupsOfEveryScope(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	for name, kind := range map[string]uint32{"global": directory.GroupGlobal, "universal": directory.GroupUniversal, "local": directory.GroupDomainLocal} {
		g := dc.group(name+" sec", ana)
		dc.change(g, func(o *directory.Object) { o.GroupType = kind | directory.GroupSecurity })
		g = dc.group(name+" dist", ana)
		dc.change(g, func(o *directory.Object) { o.GroupType = kind })
	}
	foreign := identity.MustParseSID("S-1-5-21-40-50-60-1234")
	g := dc.group("with foreigners")
	dc.change(g, func(o *directory.Object) {
		o.Members = []directory.Reference{{DN: "CN=S-1-5-21-40-50-60-1234,CN=ForeignSecurityPrincipals," + base, GUID: identity.GUID{9}, SID: foreign}}
	})
	dc.change(dc.find("Users"), func(o *directory.Object) {
		du := dc.objects[dcFindLocked(dc, "Domain Users")]
		o.Members = []directory.Reference{{DN: du.DN, GUID: du.ObjectGUID, SID: du.SID}}
	})
	b := newBox(t, dc)
	b.sync(Request{})
	for name, scope := range map[string]identity.Scope{"global": identity.ScopeGlobal, "universal": identity.ScopeUniversal, "local": identity.ScopeDomainLocal} {
		sec, err := b.entry(identity.Key{Kind: identity.ByName, Name: name + " sec"})
		if err != nil || sec.Group.Scope != scope || sec.Group.GID == 0 || !sec.Group.Security || sec.Group.Name != name+" sec" {
			t.Errorf("%s: %+v, %v", name, sec.Group, err)
		}
		dist, err := b.entry(identity.Key{Kind: identity.ByName, Name: name + " dist"})
		if err != nil || dist.Group.Scope != scope || dist.Group.GID != 0 || dist.Group.Security || dist.Group.Unpublished != idmap.ReasonDistribution {
			t.Errorf("%s: %+v, %v", name, dist.Group, err)
		}
		if !b.in("ana", name+" sec") || !b.in("ana", name+" dist") {
			t.Errorf("ana is not in %s", name)
		}
	}
	if e, err := b.entry(identity.Key{Kind: identity.ByName, Name: "with foreigners"}); err != nil || !slices.Equal(e.Group.ForeignMembers, []identity.SID{foreign}) {
		t.Errorf("foreign members: %+v, %v", e.Group, err)
	}
	if e, err := b.entry(identity.Key{Kind: identity.BySID, SID: builtin.WithRID(545)}); err != nil || e.Group.GID != 0 || e.Group.Scope != identity.ScopeBuiltin || !b.in("ana", `BUILTIN\Users`) {
		t.Errorf("BUILTIN\\Users: %+v, %v", e.Group, err)
	}
}

// dcFindLocked finds an object; the caller holds the lock.
func dcFindLocked(dc *fakeDC, name string) identity.GUID {
	for g, o := range dc.objects {
		if o.SAMAccountName == name {
			return g
		}
	}
	panic("no object " + name)
}

func TestPrimaryGroupOfAUser(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	staff := dc.group("staff berlin")
	b := newBox(t, dc)
	b.sync(Request{})
	rid, _ := dc.objects[staff].SID.RID()
	dc.change(ana, func(o *directory.Object) { o.PrimaryGroupID = rid })
	b.sync(Request{})
	if u := b.user("ana"); u.PrimaryGroup != dc.objects[staff].SID || u.GID != identity.GID(100000001+rid) || !b.in("ana", "staff berlin") || b.in("ana", "domain users") {
		t.Errorf("%+v", u)
	}
}

func TestHostileBytes(t *testing.T) {
	dc := newFakeDC()
	hostile := []string{"\xff\xfe\x00", "a\nb:c", strings.Repeat("A", 100000), "\u202eoot", "../../etc", "", "root", "-rf", "12345", "$(id)"}
	for i, h := range hostile {
		for _, guid := range []identity.GUID{dc.user(fmt.Sprintf("h%d", i)), dc.group(fmt.Sprintf("hg%d", i))} {
			dc.change(guid, func(o *directory.Object) {
				o.SAMAccountName, o.UPN, o.DisplayName, o.GivenName, o.Surname, o.Mail, o.MailNickname, o.DN = h, h, h, h, h, h, h, h
				o.SIDHistory = []identity.SID{{}, builtin, o.SID, builtin}
				o.Defects = []string{"mail: not UTF-8"}
				if i%3 == 0 {
					o.SID = identity.SID{}
				}
				o.PrimaryGroupID = uint32(i) << 30
				o.Members = []directory.Reference{{}, {DN: h}, {GUID: guid}, {SID: builtin}}
				o.UserAccountControl, o.GroupType = 0xffffffff, 0xffffffff
				o.AccountExpires, o.PwdLastSet = time.Unix(1<<40, 0), time.Unix(-1<<40, 0)
			})
		}
	}
	b := newBox(t, dc)
	b.sync(Request{})
	if res := b.sync(Request{Full: true}); res.Changed != 0 {
		t.Errorf("again: %+v", res)
	}
	b.ids()
	found := false
	for _, p := range b.m.Status().Problems {
		found = found || p.ID == ProblemDefects
	}
	if !found {
		t.Errorf("the defects are not told: %+v", b.m.Status().Problems)
	}
}
