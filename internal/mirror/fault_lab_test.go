// SPDX-License-Identifier: Apache-2.0

//go:build lab

package mirror

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/store"
)

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
