// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// ticket is alice's to this machine's web; what it holds may be changed.
type ticket struct {
	client  string
	service []string
	pac     *krbtest.PAC
	key     *krbtest.Account // that it is made with
	kvno    int
	made    time.Duration // ahead of now
}

// browser makes the token that a browser with the ticket sends.
func (w *world) browser(change func(*ticket)) []byte {
	w.t.Helper()
	pac := *w.alice.PAC
	k := ticket{client: "alice", service: []string{"HTTP", "nas.aadds.example.test"}, pac: &pac, key: w.host, kvno: int(w.host.KVNO)}
	if change != nil {
		change(&k)
	}
	session := make([]byte, 32)
	_, _ = rand.Read(session)
	from := w.now().Add(k.made)
	t := &kerberos.Ticket{Client: kerberos.Account(k.client, realm), Service: kerberos.Principal{Type: kerberos.NTService, Name: k.service, Realm: realm},
		Key: kerberos.Key{EType: kerberos.AES256, Value: secret.Own(session)}, AuthTime: from, StartTime: from, EndTime: from.Add(time.Hour)}
	t.Raw = krbtest.Seal(t.Client, t.Service, t.Key, w.kdc.Key(k.key, kerberos.AES256), k.kvno, 0, t.StartTime, t.EndTime, k.pac)
	_, token, err := kerberos.NewInitiator(t, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func TestNegotiateFindsTheRowOfTheTicket(t *testing.T) {
	w := newWorld(t)
	token := w.browser(nil)
	in, err := w.login.AcceptNegotiate(t.Context(), login.Request{Door: "web", RemoteHost: "192.0.2.7"}, token)
	if err != nil {
		t.Fatal(err)
	}
	if in.User.Name != "alice" || in.How != login.ByNegotiate || in.Mechanism != "kerberos" || in.SPN != "HTTP/nas.aadds.example.test@"+realm || in.KVNO != 2 || in.EType != 18 ||
		in.Skew > time.Second || in.Skew < -time.Minute {
		t.Errorf("result %+v", in)
	}
	if e := w.events()[0]; e.Service != access.Web || e.How != "negotiate" || e.SID != domainSID.WithRID(1105).String() || e.Principal != "alice@"+realm || e.RemoteHost != "192.0.2.7" {
		t.Errorf("event %+v", e)
	}
	// Once; and after a restart, nothing from before it.
	in, err = w.login.AcceptNegotiate(t.Context(), login.Request{}, token)
	wantKind(t, "again", err, fault.BadCredential)
	if !errors.Is(err, login.ErrReplay) || in == nil || in.Result != nil || in.SPN == "" {
		t.Errorf("again: %+v, %v", in, err)
	}
	fresh := w.browser(nil)
	w.clock.Store(int64(time.Second))
	w.restart()
	if _, err := w.login.AcceptNegotiate(t.Context(), login.Request{}, fresh); !errors.Is(err, login.ErrReplay) {
		t.Errorf("one of before the restart: %v", err)
	}
}

// The principal's name finds nobody: the SID in the PAC does.
func TestNegotiateDoesNotBelieveTheName(t *testing.T) {
	w := newWorld(t)
	in, err := w.login.AcceptNegotiate(t.Context(), login.Request{}, w.browser(func(k *ticket) {
		k.client = "bob"
	}))
	if err != nil || in.User.Name != "alice" {
		t.Errorf("a ticket in bob's name with alice's SID: %+v, %v", in, err)
	}
}

func TestNegotiateRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		set    func(*world)
		change func(*ticket)
		want   fault.Kind
		why    error
	}{
		"no PAC":                    {nil, func(k *ticket) { k.pac = nil }, fault.BadCredential, nil},
		"a user of another domain":  {nil, func(k *ticket) { k.pac.User = identity.MustParseSID("S-1-5-21-9-9-9-1105") }, fault.NotFound, login.ErrOtherDomain},
		"nobody's SID":              {nil, func(k *ticket) { k.pac.User = domainSID.WithRID(7777) }, fault.NotFound, nil},
		"a key that was never ours": {nil, func(k *ticket) { k.key = &krbtest.Account{Name: []string{"NAS$"}, Password: "forged", KVNO: 2} }, fault.BadCredential, nil},
		"a version we do not have":  {nil, func(k *ticket) { k.kvno = 9 }, fault.BadCredential, login.ErrKey},
		"not valid yet":             {nil, func(k *ticket) { k.made = time.Hour }, fault.BadCredential, nil},
		"over":                      {nil, func(k *ticket) { k.made = -2 * time.Hour }, fault.BadCredential, nil},
		"disabled":                  {func(w *world) { w.change = func(u *identity.User) { u.State |= identity.Disabled } }, nil, fault.Disabled, nil},
		"gone":                      {func(w *world) { w.nobody.Store(true) }, nil, fault.Disabled, nil},
		"denied by a rule": {func(w *world) {
			if _, err := w.login.SetRules(w.t.Context(), "test", access.Web, access.Deny, "%Domain Users"); err != nil {
				w.t.Fatal(err)
			}
		}, nil, fault.Denied, nil},
	} {
		w := newWorld(t)
		if tc.set != nil {
			tc.set(w)
		}
		in, err := w.login.AcceptNegotiate(t.Context(), login.Request{}, w.browser(tc.change))
		wantKind(t, name, err, tc.want)
		if in == nil || in.Result != nil || in.Reply != nil || in.Mechanism != "kerberos" || tc.why != nil && !errors.Is(err, tc.why) {
			t.Errorf("%s: %+v, %v", name, in, err)
		}
	}
	w := newWorld(t)
	for name, token := range map[string][]byte{"NTLM": []byte("NTLMSSP\x00\x01\x00\x00\x00")} {
		in, err := w.login.AcceptNegotiate(t.Context(), login.Request{}, token)
		if !errors.Is(err, login.ErrNoTicket) || in.Mechanism != "ntlm" || in.Result != nil {
			t.Errorf("%s: %+v, %v", name, in, err)
		}
	}
	for _, token := range [][]byte{nil, []byte("x"), w.browser(nil)[:50]} {
		in, err := w.login.AcceptNegotiate(t.Context(), login.Request{}, token)
		if err == nil || in == nil || in.Result != nil {
			t.Errorf("%x: %+v, %v", token, in, err)
		}
	}
	good := w.browser(nil)
	for i := range good {
		if i%11 != 0 {
			continue
		}
		bent := append([]byte(nil), good...)
		bent[i] ^= 1
		if in, err := w.login.AcceptNegotiate(t.Context(), login.Request{}, bent); err == nil && in.User.Name != "alice" {
			t.Errorf("byte %d bent: let in as %v", i, in.User.Name)
		}
	}
}

// A rotation between two sign-ins: both keys are good.
func TestNegotiateAfterARotation(t *testing.T) {
	w := newWorld(t)
	before := w.browser(nil)
	if _, err := w.login.AcceptNegotiate(t.Context(), login.Request{}, w.browser(nil)); err != nil {
		t.Fatal(err)
	}
	old := w.kdc.Keytab(w.host)
	w.kdc.Change(func() { w.host.Password, w.host.KVNO = "rotated", 3 })
	both := w.kdc.Keytab(w.host)
	both.Add(old.Entries...)
	time.Sleep(10 * time.Millisecond) // another mtime
	if err := both.WriteFile(w.domain.Keytab); err != nil {
		t.Fatal(err)
	}
	for what, token := range map[string][]byte{"before": before, "after": w.browser(nil)} {
		if _, err := w.login.AcceptNegotiate(t.Context(), login.Request{}, token); err != nil {
			t.Errorf("a ticket from %s the rotation: %v", what, err)
		}
	}
}
