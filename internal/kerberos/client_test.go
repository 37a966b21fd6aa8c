// SPDX-License-Identifier: Apache-2.0

package kerberos_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

const realm = "EXAMPLE.TEST"

var addr1, addr2 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

func password(s string) kerberos.Secret { return kerberos.Password(secret.FromString(s)) }

func newRealm(t *testing.T) (*krbtest.KDC, *kerberos.Client) {
	t.Helper()
	kdc := krbtest.New(realm)
	kdc.Add(krbtest.Account{Name: []string{"alice"}, UPN: "Alice.Liddell@contoso.test", Password: "wonder land"})
	kdc.Add(krbtest.Account{Name: []string{"müller"}, UPN: "müller@contoso.test", Password: "Größe 42 €"})
	kdc.Add(krbtest.Account{Name: []string{"NAS$"}, Password: "machine", KVNO: 3, Salt: kerberos.MachineSalt("NAS$", realm),
		Aliases: [][]string{{"host", "nas.example.test"}, {"HTTP", "nas.example.test"}}})
	kdc.Add(krbtest.Account{Name: []string{"DC1$"}, Password: "dc", DC: true, Aliases: [][]string{{"ldap", "dc1.example.test"}}})
	return kdc, kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(addr1), Dial: kdc.Dial})
}

func ctxFor(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestLoginByEveryFormOfName(t *testing.T) {
	kdc, c := newRealm(t)
	for name, tc := range map[string]struct {
		who    kerberos.Principal
		secret string
		want   string
	}{
		"account":             {kerberos.Account("alice", realm), "wonder land", "alice@EXAMPLE.TEST"},
		"account, other case": {kerberos.Account("ALICE", "example.test"), "wonder land", "alice@EXAMPLE.TEST"},
		"enterprise":          {kerberos.Enterprise("alice.liddell@CONTOSO.test", realm), "wonder land", "alice@EXAMPLE.TEST"},
		"not ASCII":           {kerberos.Account("müller", realm), "Größe 42 €", "müller@EXAMPLE.TEST"},
		"not ASCII, UPN":      {kerberos.Enterprise("müller@contoso.test", realm), "Größe 42 €", "müller@EXAMPLE.TEST"},
	} {
		l, err := c.Login(ctxFor(t), tc.who, password(tc.secret))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := l.TGT.Client.String(); got != tc.want {
			t.Errorf("%s: client = %s, want %s", name, got, tc.want)
		}
		if l.KVNO != 1 || len(l.Keys) != 2 || l.Keys[0].EType != kerberos.AES256 || l.Keys[0].Iterations != 4096 {
			t.Errorf("%s: kvno %d, keys %+v", name, l.KVNO, l.Keys)
		}
	}
	for _, r := range kdc.Requests() {
		if r.Kind != "AS" {
			t.Errorf("a login asked for %+v", r)
		}
	}
}

func TestLoginByKeytab(t *testing.T) {
	kdc, c := newRealm(t)
	nas := kdc.Add(krbtest.Account{Name: []string{"BOX$"}, Password: "old", KVNO: 4, ETypes: []kerberos.EType{kerberos.AES128}})
	kt := kdc.Keytab(nas)
	kdc.Change(func() { nas.Password, nas.KVNO = "new", 5 })
	for _, e := range kdc.Keytab(nas).Entries {
		// In the same second as the old ones: the version decides, not the time.
		e.Time = kt.Entries[0].Time
		kt.Add(e)
	}
	l, err := c.Login(ctxFor(t), kerberos.Account("BOX$", realm), kt)
	if err != nil || l.KVNO != 5 {
		t.Fatalf("login = %+v, %v, want key version 5", l, err)
	}
	if _, err := c.Login(ctxFor(t), kerberos.Account("NAS$", realm), kt); !fault.Is(err, fault.BadCredential) {
		t.Errorf("login of another account with this keytab: %v, want bad credential", err)
	}
}

func TestRefusalsHaveTheirKind(t *testing.T) {
	for name, tc := range map[string]struct {
		code   int32
		status uint32
		want   fault.Kind
	}{
		"disabled":              {18, 0xC0000072, fault.Disabled},
		"locked, with status":   {18, 0xC0000234, fault.Locked},
		"locked, as Samba says": {18, 0, fault.Locked},
		"account expired":       {18, 0xC0000193, fault.Expired},
		"account past its date": {1, 0, fault.Expired},
		"outside its hours":     {18, 0xC000006F, fault.Denied},
		"workstation":           {18, 0xC0000070, fault.Denied},
		"must change":           {23, 0xC0000224, fault.MustChange},
		"password expired":      {23, 0xC0000071, fault.Expired},
		"expired, no status":    {23, 0, fault.MustChange},
		"policy":                {12, 0, fault.Denied},
		"no AES key":            {14, 0, fault.BadCredential},
		"never heard of":        {77, 0, fault.Unreachable},
	} {
		kdc, c := newRealm(t)
		kdc.Add(krbtest.Account{Name: []string{"bob"}, Password: "right", Code: tc.code, Status: tc.status})
		_, err := c.Login(ctxFor(t), kerberos.Account("bob", realm), password("right"))
		if got := fault.KindOf(err); got != tc.want {
			t.Errorf("%s: kind = %v, want %v (%v)", name, got, tc.want, err)
		}
		var ke *kerberos.Error
		if !errors.As(err, &ke) || int32(ke.Code) != tc.code || uint32(ke.Status) != tc.status || ke.KDC != addr1 {
			t.Errorf("%s: error = %+v, want code %d and status %x of %v", name, ke, tc.code, tc.status, addr1)
		}
		// A wrong password is told first: the state of an account is not for strangers.
		if _, err := c.Login(ctxFor(t), kerberos.Account("bob", realm), password("wrong")); !fault.Is(err, fault.BadCredential) {
			t.Errorf("%s: with a wrong password: %v, want bad credential", name, err)
		}
	}
}

func TestWrongPasswordCountsOnce(t *testing.T) {
	kdc, c := newRealm(t)
	bob := kdc.Add(krbtest.Account{Name: []string{"bob"}, Password: "right"})
	_, err := c.Login(ctxFor(t), kerberos.Account("bob", realm), password("wrong"))
	if !fault.Is(err, fault.BadCredential) || bob.BadPasswords != 1 {
		t.Errorf("login = %v, counted %d times, want bad credential counted once", err, bob.BadPasswords)
	}
	if _, err := c.Login(ctxFor(t), kerberos.Account("nobody", realm), password("x")); !fault.Is(err, fault.NotFound) {
		t.Errorf("unknown account: %v, want not found", err)
	}
}

func TestAccountWithoutPreAuthentication(t *testing.T) {
	kdc, c := newRealm(t)
	kdc.Add(krbtest.Account{Name: []string{"open"}, Password: "right", NoPreAuth: true})
	if _, err := c.Login(ctxFor(t), kerberos.Account("open", realm), password("right")); err != nil {
		t.Errorf("right password: %v", err)
	}
	if _, err := c.Login(ctxFor(t), kerberos.Account("open", realm), password("wrong")); !fault.Is(err, fault.BadCredential) {
		t.Errorf("wrong password: %v, want bad credential", err)
	}
}

func TestSkewedClockIsToldInSeconds(t *testing.T) {
	kdc, c := newRealm(t)
	kdc.Now = func() time.Time { return time.Now().Add(-20 * time.Minute) }
	_, err := c.Login(ctxFor(t), kerberos.Account("alice", realm), password("wonder land"))
	var skew *kerberos.SkewError
	if !errors.As(err, &skew) || !fault.Is(err, fault.Unreachable) || fault.Remedy(err) == "" {
		t.Fatalf("login = %v, want a skew with a remedy", err)
	}
	if s := skew.Skew(); s < 19*time.Minute || s > 21*time.Minute || !strings.Contains(skew.Error(), "seconds ahead") {
		t.Errorf("skew = %v (%v), want about 20 minutes ahead", s, skew)
	}
	_, ahead, err := c.Time(ctxFor(t))
	if err != nil || ahead < 19*time.Minute || ahead > 21*time.Minute {
		t.Errorf("Time = %v, %v, want about 20 minutes ahead", ahead, err)
	}
}

func TestVerifyOpensTheTicketWithOurKey(t *testing.T) {
	kdc, c := newRealm(t)
	nas := kdc.Add(krbtest.Account{Name: []string{"BOX$"}, Password: "machine", KVNO: 2, Aliases: [][]string{{"host", "box.example.test"}}})
	sid, local := identity.MustParseSID("S-1-5-21-1-2-3-1104"), identity.MustParseSID("S-1-5-21-1-2-3-2000")
	bob := kdc.Add(krbtest.Account{Name: []string{"bob"}, Password: "pw", PAC: &krbtest.PAC{User: sid, Primary: 513, Groups: []uint32{513, 1200}, FullName: "Bob ☺",
		Extra: []identity.SID{identity.MustParseSID("S-1-18-1")}, Resource: []identity.SID{local}, Domain: "EXAMPLE", DNSDomain: realm, UPN: "bob@contoso.test"}})
	host := kerberos.Service("host", "box.example.test", realm)
	l, err := c.Login(ctxFor(t), kerberos.Account("bob", realm), password(bob.Password))
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.Verify(ctxFor(t), l.TGT, host, kdc.Keytab(nas))
	if err != nil || v.Client.String() != "bob@EXAMPLE.TEST" || v.PAC == nil {
		t.Fatalf("Verify = %+v, %v", v, err)
	}
	want := &kerberos.PAC{User: sid, PrimaryGroup: sid.Domain().WithRID(513), Groups: []identity.SID{sid.Domain().WithRID(513), sid.Domain().WithRID(1200),
		identity.MustParseSID("S-1-18-1"), local}, Account: "bob", FullName: "Bob ☺", Domain: "EXAMPLE", DNSDomain: realm, UPN: "bob@contoso.test", LogonServer: "DC1", AccountControl: 0x10,
		Detail: kerberos.PACDetail{UserFlags: 0x20, Groups: []kerberos.PACGroup{{RID: 513, Attributes: 7}, {RID: 1200, Attributes: 7}},
			Extra: []kerberos.PACSID{{SID: identity.MustParseSID("S-1-18-1"), Attributes: 7}}, ResourceDomain: sid.Domain(), ResourceGroups: []kerberos.PACGroup{{RID: 2000, Attributes: 7}}}}
	if got := fmt.Sprintf("%+v", v.PAC); got != fmt.Sprintf("%+v", want) {
		t.Errorf("PAC = %s\nwant  %+v", got, want)
	}
	// A keytab with the account's name only: the keys are the same.
	short := kdc.Keytab(&krbtest.Account{Name: nas.Name, Password: nas.Password, Salt: nas.Salt, KVNO: 2, ETypes: nas.ETypes})
	if _, err := c.Verify(ctxFor(t), l.TGT, host, short); err != nil {
		t.Errorf("with the account's own entry: %v", err)
	}
	forged := kdc.Keytab(&krbtest.Account{Name: nas.Name, Password: "other", Salt: nas.Salt, KVNO: 2, ETypes: nas.ETypes})
	if _, err := c.Verify(ctxFor(t), l.TGT, host, forged); !fault.Is(err, fault.BadCredential) {
		t.Errorf("a KDC that does not know our key: %v, want bad credential", err)
	}
	old := kdc.Keytab(&krbtest.Account{Name: nas.Name, Password: nas.Password, Salt: nas.Salt, KVNO: 1, ETypes: nas.ETypes})
	if _, err := c.Verify(ctxFor(t), l.TGT, host, old); !fault.Is(err, fault.Conflict) || fault.Remedy(err) == "" {
		t.Errorf("no key of that version: %v, want conflict with a remedy", err)
	}
	if _, err := c.Verify(ctxFor(t), l.TGT, kerberos.Service("host", "unknown.example.test", realm), kdc.Keytab(nas)); !fault.Is(err, fault.NotFound) {
		t.Errorf("a service that nobody has: %v, want not found", err)
	}
}

func TestAnswersToAnotherRequestAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*krbtest.Part){
		"other nonce":   func(p *krbtest.Part) { p.Nonce++ },
		"other service": func(p *krbtest.Part) { p.Service.Name = []string{"krbtgt", "ELSEWHERE.TEST"} },
		"other realm":   func(p *krbtest.Part) { p.Client.Realm = "ELSEWHERE.TEST" },
	} {
		kdc, c := newRealm(t)
		kdc.Edit = edit
		if l, err := c.Login(ctxFor(t), kerberos.Account("alice", realm), password("wonder land")); err == nil {
			t.Errorf("%s: login succeeded with %+v", name, l.TGT)
		}
	}
	kdc, c := newRealm(t)
	l, err := c.Login(ctxFor(t), kerberos.Account("alice", realm), password("wonder land"))
	if err != nil {
		t.Fatal(err)
	}
	kdc.Edit = func(p *krbtest.Part) { p.Client.Name = []string{"mallory"} }
	if _, err := c.ServiceTicket(ctxFor(t), l.TGT, kerberos.Service("ldap", "dc1.example.test", realm)); !fault.Is(err, fault.BadCredential) {
		t.Errorf("a ticket for somebody else: %v, want bad credential", err)
	}
}

func TestRC4IsNeverSpoken(t *testing.T) {
	kdc, c := newRealm(t)
	kdc.Add(krbtest.Account{Name: []string{"old"}, Password: "pw", ETypes: []kerberos.EType{23}})
	_, err := c.Login(ctxFor(t), kerberos.Account("old", realm), password("pw"))
	if !fault.Is(err, fault.BadCredential) || !strings.Contains(fault.Remedy(err), "AES") {
		t.Errorf("login = %v (remedy %q), want bad credential that speaks of AES", err, fault.Remedy(err))
	}
	if l, err := kerberos.DeriveKey(secret.FromString("pw"), kerberos.KeyInfo{EType: 23}); err == nil {
		t.Errorf("an RC4 key was made: %v", l.EType)
	}
	if _, err := kerberos.DeriveKey(secret.FromString("pw"), kerberos.KeyInfo{EType: 18, Iterations: 1 << 30}); !fault.Is(err, fault.Malformed) {
		t.Errorf("a KDC may ask for a billion iterations: %v", err)
	}
}

func TestRenew(t *testing.T) {
	_, c := newRealm(t)
	l, err := c.Login(ctxFor(t), kerberos.Account("alice", realm), password("wonder land"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Renew(ctxFor(t), l.TGT)
	if err != nil || !r.Service.Equal(l.TGT.Service) || r.Key.Value.Equal(l.TGT.Key.Value) {
		t.Errorf("Renew = %+v, %v", r, err)
	}
}

func TestKeyInfo(t *testing.T) {
	_, c := newRealm(t)
	infos, err := c.KeyInfo(ctxFor(t), kerberos.Account("NAS$", realm))
	if err != nil || len(infos) != 2 || infos[0].Salt != "EXAMPLE.TESThostnas.example.test" {
		t.Errorf("KeyInfo = %+v, %v", infos, err)
	}
	if _, err := c.KeyInfo(ctxFor(t), kerberos.Account("nobody", realm)); !fault.Is(err, fault.NotFound) {
		t.Errorf("unknown: %v, want not found", err)
	}
}

// FuzzKDCReply gives the client hostile replies at each step.
func FuzzKDCReply(f *testing.F) {
	kdc := krbtest.New(realm)
	kt := kdc.Keytab(kdc.Add(krbtest.Account{Name: []string{"alice"}, Password: "pw"})) // deriving keys is slow
	var seen [][]byte
	kdc.Answer = func(req []byte) ([]byte, bool) { seen = append(seen, req); return nil, false }
	c := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(addr1), Dial: kdc.Dial})
	l, err := c.Login(context.Background(), kerberos.Account("alice", realm), password("pw"))
	if err != nil {
		f.Fatal(err)
	}
	kdc.Answer = nil
	for _, req := range seen {
		f.Add(kdc.Reply(req))
	}
	f.Add(kdc.Refusal(37))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, reply []byte) {
		kdc := krbtest.New(realm)
		kdc.Answer = func([]byte) ([]byte, bool) { return reply, true }
		c := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(addr1), Dial: kdc.Dial})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if got, err := c.Login(ctx, kerberos.Account("alice", realm), kt); err == nil && got.TGT.Client.IsZero() {
			t.Error("a login without a client")
		}
		if got, err := c.ServiceTicket(ctx, l.TGT, kerberos.Service("a", "b", realm)); err == nil {
			t.Errorf("a replayed reply gave a ticket: %+v", got)
		}
		_, _ = c.KeyInfo(ctx, kerberos.Account("alice", realm))
	})
}
