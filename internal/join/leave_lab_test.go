// SPDX-License-Identifier: Apache-2.0

//go:build lab

package join

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/lab"
)

// gone fails the test when something of the membership is left on the box.
func gone(t *testing.T, box *lab.Box) {
	t.Helper()
	for _, file := range []string{boxKeytab, "/etc/krb5.keytab"} {
		if res, _ := box.Run(t.Context(), "test", "-e", file); res.Ok() {
			t.Errorf("%s is left", file)
		}
	}
	if o := do(t, box, task{Verb: "leave", Leave: LeaveRequest{KeepAccount: true}}); o.Kind != fault.Conflict || !strings.Contains(o.Error, "in no domain") {
		t.Errorf("the record is left:\n%s", o)
	}
}

func TestLeaveAlone(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	m := mustJoin(t, d, box, nil).Membership
	must(t, box, "cp", boxKeytab, "/root/stolen.keytab")
	o := do(t, box, task{Verb: "leave"})
	if o.Error != "" {
		t.Fatalf("leave:\n%s", o)
	}
	if s := o.step(StepDisable); !strings.Contains(s.Remedy, m.ComputerDN) {
		t.Errorf("the account stays, and nobody is told:\n%s", o)
	}
	gone(t, box)
	if got := must(t, box, "dig", "+short", "@"+d.DC.IP(), m.FQDN, "A"); got != "" {
		t.Errorf("%s is still %s in DNS", m.FQDN, got)
	}
	// A copy of the keys is worth nothing now.
	applyKrb5(t, box, m)
	if res, _ := box.Run(t.Context(), "kinit", "-k", "-t", "/root/stolen.keytab", "NAS1$"); res.Ok() {
		t.Errorf("the old keys still work:\n%s", o)
	}
	// And the user can come back.
	if m := mustJoin(t, d, box, nil).Membership; !m.Rejoined {
		t.Errorf("membership %+v", m)
	}
}

func TestLeaveWithoutTheDomain(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	mustJoin(t, d, box, nil)
	if err := d.DC.Blackhole(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := do(t, box, task{Verb: "leave", Password: lab.JoinPassword, Leave: LeaveRequest{User: lab.JoinUser}})
	if o.Kind != fault.Unreachable || !strings.Contains(o.Remedy, "--keep-account") && !strings.Contains(o.Remedy, "network") {
		t.Errorf("leave with a user, the domain gone:\n%s", o)
	}
	if res, _ := box.Run(t.Context(), "test", "-e", boxKeytab); !res.Ok() {
		t.Error("a failed leave forgot the membership")
	}
	o = do(t, box, task{Verb: "leave"})
	if s := o.step(StepDC); o.Error != "" || s.State != Warning || !strings.Contains(s.Remedy, "CN=NAS1,") {
		t.Errorf("leave alone, the domain gone:\n%s", o)
	}
	gone(t, box)
}

func TestLeaveKeepsTheAccountWithoutAsking(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	m := mustJoin(t, d, box, nil).Membership
	kvno := computerIn(t, d, "NAS1$").Get("msDS-KeyVersionNumber")
	if err := d.DC.Blackhole(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := do(t, box, task{Verb: "leave", Leave: LeaveRequest{KeepAccount: true}}); o.Error != "" || o.step(StepDC).ID != "" {
		t.Errorf("leave --keep-account:\n%s", o)
	}
	gone(t, box)
	if err := d.DC.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := computerIn(t, d, "NAS1$").Get("msDS-KeyVersionNumber"); now != kvno {
		t.Errorf("the account's key version went from %s to %s", kvno, now)
	}
	if got := must(t, box, "dig", "+short", "@"+d.DC.IP(), m.FQDN, "A"); got != box.IP() {
		t.Errorf("%s is %q in DNS, want it untouched", m.FQDN, got)
	}
}

func TestLeaveWhenTheAccountIsGone(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	mustJoin(t, d, box, nil)
	if err := d.Delete(t.Context(), "NAS1$"); err != nil {
		t.Fatal(err)
	}
	o := do(t, box, task{Verb: "leave", Password: lab.JoinPassword, Leave: LeaveRequest{User: lab.JoinUser}})
	if s := o.step(StepDelete); o.Error != "" || s.State != Warning || !strings.Contains(s.Detail, "gone already") {
		t.Errorf("leave:\n%s", o)
	}
	gone(t, box)
}

func TestLeaveWithAWrongPasswordChangesNothing(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	m := mustJoin(t, d, box, nil).Membership
	if o := do(t, box, task{Verb: "leave", Password: "n0t-It", Leave: LeaveRequest{User: lab.JoinUser}}); o.Kind != fault.BadCredential {
		t.Errorf("leave with a wrong password:\n%s", o)
	}
	for _, l := range []LeaveRequest{{User: lab.JoinUser}, {User: lab.JoinUser, KeepAccount: true}, {User: `x\y\z`}} {
		password := ""
		if l.User != lab.JoinUser {
			password = lab.JoinPassword
		}
		if o := do(t, box, task{Verb: "leave", Password: password, Leave: l}); o.Kind != fault.Malformed {
			t.Errorf("leave %+v:\n%s", l, o)
		}
	}
	applyKrb5(t, box, m)
	must(t, box, "kinit", "-k", "-t", boxKeytab, "NAS1$")
	if got := must(t, box, "dig", "+short", "@"+d.DC.IP(), m.FQDN, "A"); got != box.IP() {
		t.Errorf("%s is %q in DNS, want it untouched", m.FQDN, got)
	}
}

// TestLeaveAndJoinAnew: the account was deleted, and the next one of the same
// name has its DNS name all the same.
func TestLeaveAndJoinAnew(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	mustJoin(t, d, box, nil)
	if o := do(t, box, task{Verb: "leave", Password: lab.JoinPassword, Leave: LeaveRequest{User: lab.JoinUser}}); o.Error != "" {
		t.Fatalf("leave:\n%s", o)
	}
	o := mustJoin(t, d, box, nil)
	if s := o.step(StepRegister); s.State != Done || o.Membership.Rejoined {
		t.Errorf("the name: %+v", s)
	}
	if got := must(t, box, "dig", "+short", "@"+d.DC.IP(), o.Membership.FQDN, "A"); got != box.IP() {
		t.Errorf("%s is %q in DNS, want %s", o.Membership.FQDN, got, box.IP())
	}
}
