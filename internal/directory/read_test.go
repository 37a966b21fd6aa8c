// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

func TestReadAllSkipsWhatIsNobody(t *testing.T) {
	nobody, computer := goodUser(), goodUser()
	nobody.Attributes = nobody.Attributes[:1] // no objectGUID
	computer.Attributes[0] = Text("objectClass", "user", "computer")
	broken := goodUser()
	broken.Attributes[2] = Attribute{"objectSid", [][]byte{{1}}}
	trust := goodUser() // the account of a trusted domain is a user by its class
	var asked fakeQuery
	conn := connect(t, func(q fakeQuery) ([]Entry, bool) {
		asked = q
		all := []Entry{goodUser(), nobody, computer, broken}
		if !strings.Contains(q.filter, "sAMAccountType") {
			all = append(all, trust)
		}
		for i := range all {
			all[i].Attributes = append(slices.Clone(all[i].Attributes), Text("sAMAccountType", map[bool]string{true: "805306370", false: "805306368"}[i == 4]))
		}
		return all, true
	})
	var got []Object
	n, err := conn.ReadAll(ctxFor(t), 0, func(o Object) error { got = append(got, o); return nil })
	if err != nil || n != 2 || len(got) != 2 || len(got[0].Defects) != 0 || len(got[1].Defects) != 1 || !got[0].UnderSyncedOU {
		t.Errorf("ReadAll = %d, %v, %+v, want the good one and the broken one", n, err, got)
	}
	if asked.base != testBase || asked.scope != int(Subtree) || strings.Contains(asked.filter, "uSNChanged") {
		t.Errorf("asked %+v", asked)
	}
	if n, err := conn.ReadAll(ctxFor(t), 4712, func(Object) error { return nil }); err != nil || n != 2 || !strings.Contains(asked.filter, "(uSNChanged>=4712)") {
		t.Errorf("incremental: %d, %v, asked %q", n, err, asked.filter)
	}
	ids := 0
	if n, err := conn.ReadIDs(ctxFor(t), func(id ID) error {
		if id.ObjectGUID == testGUID && id.OID.String() == testOID {
			ids++
		}
		return nil
	}); err != nil || n != 2 || ids != 2 {
		t.Errorf("ReadIDs = %d (%d), %v, want 2", n, ids, err)
	}
}

func TestReadOneByEveryKey(t *testing.T) {
	byUPN := map[string]bool{"alice@contoso.test": true}
	conn := connect(t, func(q fakeQuery) ([]Entry, bool) {
		f := strings.ToLower(q.filter)
		switch {
		case strings.HasPrefix(q.base, "<SID=S-1-5-21-1-2-3-1104>"), q.base == "<GUID="+testGUID.String()+">":
			return []Entry{goodUser()}, true
		case strings.HasPrefix(q.base, "<"):
			return nil, true
		case strings.Contains(f, "(samaccountname=alice)"), strings.Contains(f, "(msds-aadobjectid="+testOID+")"):
			return []Entry{goodUser()}, true
		case strings.Contains(f, "(samaccountname=twins)"):
			return []Entry{goodUser(), goodUser()}, true
		}
		for upn := range byUPN {
			if strings.Contains(f, "(userprincipalname="+upn+")") {
				return []Entry{goodUser()}, true
			}
		}
		return []Entry{}, true
	})
	oid, _ := identity.ParseGUID(testOID)
	named := func(s string) identity.Key { return identity.Key{Kind: identity.ByName, Name: s} }
	for name, tc := range map[string]struct {
		key  identity.Key
		want fault.Kind
	}{
		"SID":                {identity.Key{Kind: identity.BySID, SID: identity.MustParseSID("S-1-5-21-1-2-3-1104")}, 0},
		"GUID":               {identity.Key{Kind: identity.ByObjectGUID, GUID: testGUID}, 0},
		"oid":                {identity.Key{Kind: identity.ByOID, GUID: oid}, 0},
		"account":            {named("Alice"), 0},
		"UPN":                {named("Alice@contoso.test"), 0},
		"NetBIOS domain":     {named(`example\alice`), 0},
		"DNS domain":         {named(`EXAMPLE.test\alice`), 0},
		"account at domain":  {named("alice@example.test"), 0},
		"account at NetBIOS": {named("alice@EXAMPLE"), 0},
		"another domain":     {named(`other\alice`), fault.NotFound},
		"another suffix":     {named("alice@other.test"), fault.NotFound},
		"nobody":             {named("nobody"), fault.NotFound},
		"no account":         {named(`example\`), fault.NotFound},
		"at nothing":         {named("@example.test"), fault.NotFound},
		"injection":          {named("*)(objectClass=*"), fault.NotFound},
		"twins":              {named("twins"), fault.Conflict},
		"control character":  {named("a\nb"), fault.Malformed},
		"unknown SID":        {identity.Key{Kind: identity.BySID, SID: identity.MustParseSID("S-1-5-21-1-2-3-9999")}, fault.NotFound},
		"zero SID":           {identity.Key{Kind: identity.BySID}, fault.Malformed},
		"uid":                {identity.Key{Kind: identity.ByUID, ID: 5}, fault.Malformed},
	} {
		o, err := conn.ReadOne(ctxFor(t), tc.key)
		if fault.KindOf(err) != tc.want || (err == nil && o.SAMAccountName != "alice") {
			t.Errorf("%s: %q, %v, want %v", name, o.SAMAccountName, err, tc.want)
		}
	}
}

func TestTokenGroups(t *testing.T) {
	conn := connect(t, func(q fakeQuery) ([]Entry, bool) {
		values := [][]byte{sidBytes("S-1-5-21-1-2-3-513"), sidBytes("S-1-5-32-545")}
		if strings.Contains(q.base, "broken") {
			values[1] = []byte("x")
		}
		return []Entry{{DN: q.base, Attributes: []Attribute{{"tokenGroups", values}}}}, true
	})
	if got, err := conn.TokenGroups(ctxFor(t), "<SID=S-1-5-21-1-2-3-1104>"); err != nil || len(got) != 2 || got[1].String() != "S-1-5-32-545" {
		t.Errorf("TokenGroups = %v, %v", got, err)
	}
	if got, err := conn.TokenGroups(ctxFor(t), "CN=broken,"+testBase); !fault.Is(err, fault.Malformed) {
		t.Errorf("a broken one: %v, %v, want malformed", got, err)
	}
}

func TestWatch(t *testing.T) {
	net, dcs := newNetwork(t, 1)
	dcs[0].with(func(q fakeQuery) ([]Entry, bool) {
		if len(q.oids) == 1 && q.oids[0] == "1.2.840.113556.1.4.528" {
			return nil, false // stays open
		}
		return nil, true
	})
	c := net.client(t, net.locator(t))
	ready := make(chan DC, 1)
	done := make(chan error, 1)
	go func() {
		done <- c.Watch(ctxFor(t), func(d DC) { ready <- d }, func(Changed) {})
	}()
	select {
	case d := <-ready:
		if d.Host != "a.example.test" {
			t.Errorf("ready with %+v", d)
		}
	case err := <-done:
		t.Fatalf("ended before it was ready: %v", err)
	}
	dcs[0].hangUp()
	if err := <-done; !fault.Is(err, fault.Unreachable) {
		t.Errorf("the DC went away: %v, want unreachable", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		done <- c.Watch(ctx, func(DC) { cancel() }, func(Changed) {})
	}()
	select {
	case err := <-done:
		if err != context.Canceled {
			t.Errorf("stopped: %v, want canceled", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Watch does not end with its context")
	}
}
