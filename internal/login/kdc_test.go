// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/login"
)

func TestRefusalsOfTheKDC(t *testing.T) {
	for name, tc := range map[string]struct {
		code     int32
		status   kerberos.Status
		want     fault.Kind
		stranger fault.Kind
	}{
		"disabled":    {18, kerberos.StatusAccountDisabled, fault.Disabled, fault.BadCredential},
		"locked":      {18, 0, fault.Locked, fault.BadCredential},
		"expired":     {18, kerberos.StatusAccountExpired, fault.Expired, fault.BadCredential},
		"must change": {23, kerberos.StatusMustChange, fault.MustChange, fault.MustChange},
	} {
		w := newWorld(t)
		w.allow("sshd", "*")
		w.kdc.Change(func() { w.alice.Code, w.alice.Status = tc.code, uint32(tc.status) })
		_, err := w.try("alice", "wonder land")
		wantKind(t, name, err, tc.want)
		wantKind(t, name+", to a stranger", login.ForStranger(err), tc.stranger)
	}
}

func TestAnotherPrincipalIsNotTheRow(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	w.kdc.Change(func() { w.alice.PAC.User = domainSID.WithRID(1106) })
	_, err := w.try("alice", "wonder land")
	wantKind(t, "another SID in the PAC", err, fault.Denied)
	w.kdc.Change(func() { w.alice.PAC = nil })
	_, err = w.try("alice", "wonder land")
	wantKind(t, "no PAC", err, fault.Denied)
}

func TestForgedKDCIsRefusedAndSaysNothingOfThePassword(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	forged := krbtest.New(realm) // it knows the password, and not our key
	forged.Add(krbtest.Account{Name: []string{"alice"}, Password: "wonder land", PAC: w.alice.PAC})
	forged.Add(krbtest.Account{Name: []string{"NAS$"}, Password: "guessed", KVNO: 2, Aliases: w.host.Aliases})
	real := w.domain.KDC
	w.domain.KDC = kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(netip.MustParseAddr("192.0.2.1")), Dial: forged.Dial})
	_, err := w.try("alice", "wonder land")
	wantKind(t, "a KDC that says yes to everybody", err, fault.BadCredential)
	w.domain.KDC = real
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Errorf("the real one, afterwards: %v", err)
	}
}

// Where the machine's account was deleted no KDC can prove itself by our key: that
// is no answer about a password, right or wrong. Who was here before is let in by
// the verifier, as when no KDC answers; an administrator hears what to do.
func TestAMachineThatTheDomainDoesNotKnowMakesNoPasswordWrong(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	w.kdc.Add(krbBob)
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.kdc.Change(func() { w.host.Name, w.host.Aliases = []string{"DELETED$"}, nil })
	for range 10 { // the budget of a wrong password would be spent
		_, err := w.try("bob", "builder")
		wantKind(t, "who was never here", err, fault.Unreachable)
		if !strings.Contains(fault.Remedy(err), "latchkey join") {
			t.Errorf("the remedy is %q", fault.Remedy(err))
		}
	}
	if r, err := w.try("alice", "wonder land"); err != nil || r.How != login.ByOffline {
		t.Errorf("who was here before: %+v, %v", r, err)
	}
	// The verifier stands in for the proof, not for the KDC's word on a password.
	_, err := w.try("alice", "looking glass")
	wantKind(t, "a wrong password", err, fault.BadCredential)
}

// A KDC that is slow is no silent one, where nothing else could decide; who has
// signed in here before does not wait for it.
func TestSlowKDCIsWaitedForWhereNothingElseDecides(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	w.login.Close()
	w.kdc.Add(krbBob)
	var slow sync.Once
	w.kdc.Answer = func([]byte) ([]byte, bool) {
		slow.Do(func() { time.Sleep(2500 * time.Millisecond) })
		return nil, false
	}
	if r, err := w.try("bob", "builder"); err != nil || r.How != login.ByKerberos {
		t.Errorf("who was never here: %+v, %v", r, err)
	}
	slow = sync.Once{}
	if r, err := w.try("alice", "wonder land"); err != nil || r.How != login.ByOffline {
		t.Errorf("who was here before: %+v, %v", r, err)
	}
}
