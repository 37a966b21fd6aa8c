// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
)

func TestClosedUntilAllowed(t *testing.T) {
	w := newWorld(t)
	_, err := w.try("alice", "wonder land")
	wantKind(t, "no rule", err, fault.Denied)
	if got := fault.KindOf(login.ForStranger(err)); got != fault.Denied {
		t.Errorf("who proved the password is told %v, want denied", got)
	}
	if !strings.Contains(fault.Remedy(err), "latchkey access allow") {
		t.Errorf("remedy %q", fault.Remedy(err))
	}
	w.allow("sshd", "%Domain Users")
	if _, err = w.try("alice", "wonder land"); err != nil {
		t.Errorf("allowed by the primary group: %v", err)
	}
	if _, err := w.login.SetRules(t.Context(), "test", "sshd", access.Deny, domainSID.WithRID(1105).String()); err != nil {
		t.Fatal(err)
	}
	_, err = w.try("alice", "wonder land")
	wantKind(t, "deny beats allow", err, fault.Denied)
	w.restart() // rules last
	_, err = w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"})
	wantKind(t, "account, after a restart", err, fault.Denied)
	if _, err := w.login.SetRules(t.Context(), "test", "sshd", access.Allow, "nobody-at-all"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a rule for nobody: %v", err)
	}
}

func TestRuleStaysWithItsRow(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "alice")
	w.change = func(u *identity.User) { u.Account, u.UPN = "alice.new", "alice.new@contoso.test" }
	if _, err := w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"}); err != nil {
		t.Fatal(err)
	}
	w.change = nil
	w.put("alice", 1200, false)
	if _, err := w.login.Account(t.Context(), login.Request{Name: "alice.new", Service: "sshd"}); err != nil {
		t.Errorf("the renamed one: %v", err)
	}
	_, err := w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"})
	wantKind(t, "somebody new with the old name", err, fault.Denied)
}

func TestDirectorysWordCountsNow(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*identity.User)
		nobody bool
		want   fault.Kind
	}{
		"disabled": {func(u *identity.User) { u.State |= identity.Disabled }, false, fault.Disabled},
		"expired":  {func(u *identity.User) { u.AccountExpires = time.Now().Add(-time.Hour) }, false, fault.Expired},
		"gone":     {nil, true, fault.Disabled},
	} {
		w := newWorld(t)
		w.allow("sshd", "*")
		if _, err := w.try("alice", "wonder land"); err != nil {
			t.Fatal(err)
		}
		w.change = tc.change
		w.nobody.Store(tc.nobody)
		_, err := w.try("alice", "wonder land")
		wantKind(t, name+", by password", err, tc.want)
		_, err = w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"})
		wantKind(t, name+", by key", err, tc.want)
	}
}
