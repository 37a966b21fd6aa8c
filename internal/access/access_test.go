// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"testing"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

const (
	alice identity.RowID = 1
	bob   identity.RowID = 2
	staff identity.RowID = 10
	temps identity.RowID = 11
)

func rule(e access.Effect, service string, row identity.RowID) access.Rule {
	r := access.Rule{Service: service, Effect: e, Row: row, Kind: identity.KindUser, Name: "somebody"}
	switch {
	case row == 0:
		r.Kind, r.Name = 0, ""
	case row >= 10:
		r.Kind = identity.KindGroup
	}
	return r
}

func TestDecide(t *testing.T) {
	allow, deny := access.Allow, access.Deny
	type ask struct {
		service string
		user    identity.RowID
		groups  []identity.RowID
		want    bool
	}
	for name, tc := range map[string]struct {
		rules []access.Rule
		asks  []ask
	}{
		"a shell is closed, shares and the web are open": {nil, []ask{
			{"sshd", alice, nil, false}, {"login", alice, nil, false}, {"su", alice, nil, false}, {"sudo", alice, nil, false},
			{"whatever", alice, nil, false}, {"", alice, nil, false}, {"*", alice, nil, false}, {"smb", alice, nil, true}, {"web", alice, nil, true}}},
		"everybody": {[]access.Rule{rule(allow, "sshd", 0)}, []ask{
			{"sshd", alice, nil, true}, {"SSHD", bob, nil, true}, {"sudo", alice, nil, false}}},
		"one person": {[]access.Rule{rule(allow, "sshd", alice)}, []ask{
			{"sshd", alice, nil, true}, {"sshd", bob, nil, false}, {"sshd", 0, nil, false}}},
		"a group": {[]access.Rule{rule(allow, "SSHD", staff)}, []ask{
			{"sshd", alice, []identity.RowID{temps, staff}, true}, {"sshd", alice, []identity.RowID{temps}, false},
			// A user whose row has the number of the group is not the group.
			{"sshd", staff, nil, false}}},
		"deny beats allow": {[]access.Rule{rule(allow, "sshd", alice), rule(allow, "sshd", 0), rule(deny, "sshd", temps)}, []ask{
			{"sshd", alice, []identity.RowID{temps}, false}, {"sshd", alice, nil, true}}},
		"deny everywhere": {[]access.Rule{rule(allow, "sshd", 0), rule(deny, "*", bob)}, []ask{
			{"sshd", bob, nil, false}, {"smb", bob, nil, false}, {"web", bob, nil, false}, {"sshd", alice, nil, true}, {"smb", alice, nil, true}}},
		"an open service with a rule is for those it names": {[]access.Rule{rule(allow, "smb", staff)}, []ask{
			{"smb", alice, []identity.RowID{staff}, true}, {"smb", bob, nil, false}, {"web", bob, nil, true}}},
		"a rule that denies leaves an open service open": {[]access.Rule{rule(deny, "smb", bob)}, []ask{
			{"smb", alice, nil, true}, {"smb", bob, nil, false}}},
		"the later rule for the same who": {[]access.Rule{rule(deny, "sshd", alice), rule(allow, "sshd", alice)}, []ask{
			{"sshd", alice, nil, true}}},
		"no rule opens everything, even when one was smuggled in": {[]access.Rule{rule(allow, "*", alice)}, []ask{
			{"sudo", alice, nil, false}}},
	} {
		p := access.New(tc.rules...)
		for _, a := range tc.asks {
			got := p.Decide(a.service, a.user, a.groups)
			if got.Allowed != a.want || got.Why == "" {
				t.Errorf("%s: %s for %d in %v: %+v, want allowed %v", name, a.service, a.user, a.groups, got, a.want)
			}
		}
	}
}

func TestRulesAreValues(t *testing.T) {
	one := access.New(rule(access.Allow, "sshd", alice))
	two := one.With(rule(access.Deny, "sshd", bob))
	if len(one.Rules()) != 1 || len(two.Rules()) != 2 {
		t.Fatalf("%d and %d rules, want 1 and 2", len(one.Rules()), len(two.Rules()))
	}
	if got := two.Rules()[0].Effect; got != access.Deny {
		t.Errorf("first rule is %v, want the denial", got)
	}
	three, had := two.Without("SSHD", bob)
	if !had || len(three.Rules()) != 1 || len(two.Rules()) != 2 {
		t.Errorf("Without: %v, %v", had, three.Rules())
	}
	if _, had := three.Without("sudo", alice); had {
		t.Error("Without found a rule of another service")
	}
}

func TestCheckService(t *testing.T) {
	for service, want := range map[string]bool{"sshd": true, "sudo-i": true, "runuser-l": true, "": false, "a b": false, "../x": false, "smb": true} {
		if err := access.CheckService(service, access.Allow); (err == nil) != want || err != nil && !fault.Is(err, fault.Malformed) {
			t.Errorf("CheckService(%q) = %v, want good %v", service, err, want)
		}
	}
	if access.CheckService("*", access.Allow) == nil || access.CheckService("*", access.Deny) != nil {
		t.Error("every service: want it for denials only")
	}
}
