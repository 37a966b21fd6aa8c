// SPDX-License-Identifier: Apache-2.0

package kerberos_test

import (
	"sync"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

func TestSessionKeepsItsTickets(t *testing.T) {
	kdc, c := newRealm(t)
	s := kerberos.NewSession(c, kerberos.Account("alice", realm), password("wonder land"))
	defer s.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tk, err := s.Ticket(ctxFor(t), "ldap", "dc1.example.test")
			if err != nil || tk.Flags&kerberos.FlagDelegateOK == 0 {
				t.Errorf("Ticket = %+v, %v", tk, err)
				return
			}
			tk.Wipe() // the caller's own copy
		})
	}
	wg.Wait()
	if got := len(kdc.Requests()); got != 3 {
		t.Errorf("8 callers made %d requests, want 3 (two for the login, one for the ticket)", got)
	}
	if _, err := s.Ticket(ctxFor(t), "host", "NAS.example.test"); err != nil {
		t.Error(err)
	}
	if got := len(kdc.Requests()); got != 1 {
		t.Errorf("another service took %d requests, want 1", got)
	}
	if _, err := s.Ticket(ctxFor(t), "ldap", "unknown.example.test"); !fault.Is(err, fault.NotFound) {
		t.Errorf("unknown service: %v, want not found", err)
	}
	if got := len(kdc.Requests()); got != 1 {
		t.Errorf("an unknown service took %d requests, want 1: the session is good", got)
	}
}

func TestSessionSignsInAgainWhenTheTGTIsRefused(t *testing.T) {
	kdc, c := newRealm(t)
	s := kerberos.NewSession(c, kerberos.Account("alice", realm), password("wonder land"))
	defer s.Close()
	if _, err := s.Ticket(ctxFor(t), "ldap", "dc1.example.test"); err != nil {
		t.Fatal(err)
	}
	// The domain is rebuilt: another krbtgt key, the same people.
	other, _ := newRealm(t)
	kdc.Answer = func(req []byte) ([]byte, bool) { return other.Reply(req), true }
	if _, err := s.Ticket(ctxFor(t), "host", "nas.example.test"); err != nil {
		t.Errorf("after the rebuild: %v", err)
	}
	other.Requests()
	s.SetSecret(password("changed"))
	s.Drop()
	if _, err := s.Ticket(ctxFor(t), "host", "nas.example.test"); !fault.Is(err, fault.BadCredential) {
		t.Errorf("with a wrong secret: %v, want bad credential", err)
	}
	s.Close()
	if _, err := s.Ticket(ctxFor(t), "host", "nas.example.test"); !fault.Is(err, fault.Internal) {
		t.Errorf("after Close: %v, want internal", err)
	}
}

// TestSessionTriesWhatWasBeforeAndWillBe is a KDC that has not heard of a
// rotation, or that has heard of one which was never remembered.
func TestSessionTriesWhatWasBeforeAndWillBe(t *testing.T) {
	_, c := newRealm(t)
	s := kerberos.NewSession(c, kerberos.Account("alice", realm), password("new"), password("also wrong"), password("wonder land"))
	defer s.Close()
	if _, err := s.Ticket(ctxFor(t), "ldap", "dc1.example.test"); err != nil {
		t.Errorf("by the third: %v", err)
	}
	s.SetSecret(password("new"), password("wrong"))
	s.Drop()
	if _, err := s.Ticket(ctxFor(t), "ldap", "dc1.example.test"); !fault.Is(err, fault.BadCredential) {
		t.Errorf("none of them: %v, want bad credential", err)
	}
	s.SetSecret(password("wrong"), password("wonder land"))
	if _, err := s.Ticket(ctxFor(t), "ldap", "dc1.example.test"); err != nil {
		t.Errorf("by the second: %v", err)
	}
	s.Close()
	s.SetSecret(password("wonder land"))
	if _, err := s.Ticket(ctxFor(t), "ldap", "dc1.example.test"); !fault.Is(err, fault.Internal) {
		t.Errorf("after Close: %v, want internal", err)
	}
}
