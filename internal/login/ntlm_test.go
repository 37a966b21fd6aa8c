// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// dc plays a domain controller that checks NTLM: the response "good" is right.
type dc struct {
	mu      sync.Mutex
	asked   []netlogon.Logon
	bad     int
	rid     uint32 // that it vouches for
	status  uint32 // refuse with this
	expires time.Time
	groups  []uint32
	upn     string
	leave   func() // the caller goes away before the answer; nil: it does not
}

func (d *dc) SamLogon(ctx context.Context, l netlogon.Logon) (*netlogon.Validation, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, l)
	kinds := map[uint32]fault.Kind{netlogon.StatusAccountDisabled: fault.Disabled, netlogon.StatusAccountLockedOut: fault.Locked,
		netlogon.StatusPasswordMustChange: fault.MustChange, netlogon.StatusNoLogonServers: fault.Unreachable, netlogon.StatusWrongPassword: fault.BadCredential}
	status := d.status
	if status == 0 && string(l.NT) != "good" {
		status = netlogon.StatusWrongPassword
		d.bad++
	}
	if d.leave != nil {
		d.leave()
	}
	if ctx.Err() != nil {
		return nil, fault.Wrap(fault.Unreachable, "wait for the domain controller", ctx.Err())
	}
	if status != 0 {
		return nil, &fault.Error{Kind: kinds[status], Err: &netlogon.Status{Code: status}}
	}
	v := &netlogon.Validation{EffectiveName: "Alice", LogonDomain: "AADDSEX", DomainSID: domainSID, UserRID: d.rid, UPN: d.upn, PrimaryGroupRID: 513,
		PasswordMustChange: d.expires, SessionKey: secret.FromString("0123456789abcdef")}
	for _, rid := range d.groups {
		v.Groups = append(v.Groups, netlogon.Group{RID: rid, Attributes: 7})
	}
	return v, nil
}

func (w *world) respond(domain, name, response string) (*login.NTLMResult, error) {
	w.t.Helper()
	return w.login.VerifyNTLM(w.t.Context(), login.NTLMRequest{Request: login.Request{Name: name, Door: "winbind"}, Domain: domain, Workstation: "PC7",
		Challenge: [8]byte{1, 2, 3}, NT: []byte(response)})
}

func TestNTLMFindsTheRowOfEveryName(t *testing.T) {
	w := newWorld(t)
	w.ntlm = &dc{rid: 1105}
	for _, n := range []struct{ domain, name string }{{"AADDSEX", "alice"}, {"aaddsex", "ALICE"}, {"aadds.example.test", "Alice"}, {"", "alice"},
		{"", "alice@contoso.test"}, {"AADDSEX", "alice@contoso.test"}, {"", "alice@aadds.example.test"}} {
		r, err := w.respond(n.domain, n.name, "good")
		if err != nil {
			t.Errorf("%v: %v", n, err)
			continue
		}
		if r.User.Name != "alice" || r.How != login.ByNTLM || len(r.GIDs) == 0 || string(r.Validation.SessionKey.Reveal()) != "0123456789abcdef" {
			t.Errorf("%v: %+v", n, r)
		}
		// The response is a hash over the names as they were sent.
		if l := w.ntlm.asked[len(w.ntlm.asked)-1]; l.Domain != n.domain || l.User != n.name || l.Workstation != "PC7" || l.Challenge != [8]byte{1, 2, 3} {
			t.Errorf("%v: the domain controller was asked %+v", n, l)
		}
		r.Wipe()
	}
	for _, n := range []struct {
		domain, name string
		other        bool
	}{{"ELSEWHERE", "alice", true}, {"NAS", "alice", true}, {"ELSEWHERE", "alice@contoso.test", true}, {"AADDSEX", "nobody", false}, {"", "alice@elsewhere.test", false}, {"AADDSEX", "", false}, {"AADDSEX", `X\alice`, false}} {
		before := len(w.ntlm.asked)
		_, err := w.respond(n.domain, n.name, "good")
		wantKind(t, fmt.Sprint(n), err, fault.NotFound)
		if errors.Is(err, login.ErrOtherDomain) != n.other || len(w.ntlm.asked) != before {
			t.Errorf("%v: %v; the domain controller was asked %v", n, err, w.ntlm.asked[before:])
		}
	}
	events := w.events()
	for _, e := range events {
		if e.Action != audit.SignIn || e.How != "ntlm" || e.Service != access.SMB || e.RemoteHost != "PC7" || e.Door != "winbind" {
			t.Errorf("event %+v", e)
		}
	}
	if len(events) != 14 || events[0].Outcome != audit.Allowed || events[0].Asked != `AADDSEX\alice` || events[0].UID == 0 || !events[0].Sent || events[0].Rule != "default" {
		t.Errorf("%d events, the first %+v", len(events), events[0])
	}
}

func TestNTLMIsCountedInTheBudget(t *testing.T) {
	w := newWorld(t)
	w.ntlm = &dc{rid: 1105}
	for i := range 6 {
		_, err := w.respond("AADDSEX", "alice", "bad")
		want := fault.BadCredential
		if i >= 3 {
			want = fault.Locked
		}
		wantKind(t, "guess", err, want)
		if code, ok := login.NTStatus(err); ok != (i < 3) || ok && code != netlogon.StatusWrongPassword {
			t.Errorf("guess %d: NTSTATUS %x, %v", i, code, ok)
		}
	}
	if w.ntlm.bad != 3 {
		t.Errorf("the domain counted %d, want 3", w.ntlm.bad)
	}
	// Passwords and responses spend one budget, and it lasts.
	w.restart()
	w.allow("sshd", "*")
	_, _ = w.try("alice", "guess")
	_, err := w.try("alice", "another guess")
	wantKind(t, "by password, from elsewhere", err, fault.Locked)
	if n := w.bad(); n != 1 {
		t.Errorf("the KDC counted %d, want 1", n)
	}
	w.clock.Store(int64(3 * time.Minute))
	if _, err := w.respond("AADDSEX", "alice", "good"); err != nil {
		t.Errorf("after the window: %v", err)
	}
}

func TestNTLMSuccessForgivesTheBudget(t *testing.T) {
	w := newWorld(t)
	w.ntlm = &dc{rid: 1105}
	for range 5 {
		for range 2 {
			_, err := w.respond("AADDSEX", "alice", "bad")
			wantKind(t, "wrong", err, fault.BadCredential)
		}
		if _, err := w.respond("AADDSEX", "alice", "good"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNTLMGuessesInParallelSpendNoMoreThanTheBudget(t *testing.T) {
	w := newWorld(t)
	w.ntlm = &dc{rid: 1105}
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() { _, _ = w.respond("AADDSEX", "alice", "bad") })
	}
	all.Wait()
	if w.ntlm.bad != 3 {
		t.Errorf("the domain counted %d, want 3", w.ntlm.bad)
	}
}

func TestNTLMObeysPolicyAndState(t *testing.T) {
	for name, tc := range map[string]struct {
		set    func(w *world)
		want   fault.Kind
		status uint32
	}{
		"denied by a rule": {func(w *world) {
			if _, err := w.login.SetRules(t.Context(), "test", access.SMB, access.Deny, "alice"); err != nil {
				t.Fatal(err)
			}
		}, fault.Denied, 0},
		"disabled since the mirror's pass":    {func(w *world) { w.change = func(u *identity.User) { u.State |= identity.Disabled } }, fault.Disabled, 0},
		"gone from the directory":             {func(w *world) { w.nobody.Store(true) }, fault.Disabled, 0},
		"another account proved itself":       {func(w *world) { w.ntlm.rid = 1106 }, fault.Denied, 0},
		"disabled, says the DC":               {func(w *world) { w.ntlm.status = netlogon.StatusAccountDisabled }, fault.Disabled, netlogon.StatusAccountDisabled},
		"locked, says the DC":                 {func(w *world) { w.ntlm.status = netlogon.StatusAccountLockedOut }, fault.Locked, netlogon.StatusAccountLockedOut},
		"must change, says the DC":            {func(w *world) { w.ntlm.status = netlogon.StatusPasswordMustChange }, fault.MustChange, netlogon.StatusPasswordMustChange},
		"no DC answers":                       {func(w *world) { w.ntlm.status = netlogon.StatusNoLogonServers }, fault.Unreachable, netlogon.StatusNoLogonServers},
		"no secure channel":                   {func(w *world) { w.ntlm = nil }, fault.Unreachable, 0},
		"two objects claim to be this person": {func(w *world) { w.conflict(1105) }, fault.Denied, 0},
	} {
		w := newWorld(t)
		w.ntlm = &dc{rid: 1105, groups: []uint32{513, 4000}} // not what the row says: it is read afresh
		tc.set(w)
		r, err := w.respond("AADDSEX", "alice", "good")
		wantKind(t, name, err, tc.want)
		if r != nil {
			t.Errorf("%s: %+v", name, r)
		}
		if code, _ := login.NTStatus(err); code != tc.status {
			t.Errorf("%s: NTSTATUS %x, want %x", name, code, tc.status)
		}
		if all := w.events(); len(all) != 1+strings.Count(name, "by a rule") || all[len(all)-1].Outcome == audit.Allowed {
			t.Errorf("%s: events %+v", name, all)
		}
	}
}

func TestNTLMWithoutItsHashIsRecognised(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{})
	w.ntlm = &dc{rid: 1105}
	w.allow("sshd", "*")
	if _, err := w.respond("AADDSEX", "alice", "bad"); strings.Contains(fault.Remedy(err), "hash") {
		t.Errorf("before there is evidence: %v, %s", err, fault.Remedy(err))
	}
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	_, err := w.respond("AADDSEX", "alice", "bad")
	wantKind(t, "by NTLM", err, fault.BadCredential)
	if !strings.Contains(fault.Remedy(err), "NTLM") {
		t.Errorf("remedy %q", fault.Remedy(err))
	}
	if got := login.ForStranger(err); strings.Contains(got.Error()+fault.Remedy(got), "NTLM") {
		t.Errorf("a stranger is told %v", got)
	}
	if s := w.login.Suspicions(); s.NTLM != 1 || s.NTLMWorks != 0 {
		t.Errorf("suspicions %+v", s)
	}
	w.restart() // the evidence lasts
	if s := w.login.Suspicions(); s.NTLM != 1 {
		t.Errorf("suspicions after a restart %+v", s)
	}
	e, err := w.login.Explain(t.Context(), login.Request{Name: "alice", Service: "sshd"}, secret.Bytes{})
	if err != nil || verdictOf(e, login.TopicNTLM) != login.VerdictWarning {
		t.Errorf("explained %+v, %v", e, err)
	}
	if _, err := w.respond("AADDSEX", "alice", "good"); err != nil { // it was a wrong password only
		t.Fatal(err)
	}
	if s := w.login.Suspicions(); s.NTLM != 0 || s.NTLMWorks != 1 {
		t.Errorf("suspicions after a success %+v", s)
	}
	if all := w.events(); all[len(all)-3].Hint != "ntlm-hash" || all[1].Hint != "" {
		t.Errorf("events %+v", all)
	}
}

// Who the domain controller has just described as the row has it is not read a
// second time; where anything differs, the directory is asked.
func TestNTLMReadsTheRowAfreshWhereTheDomainControllerSaysOtherwise(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(w *world)
		reads  int64
	}{
		"the same":             {func(*world) {}, 0},
		"another group":        {func(w *world) { w.ntlm.groups = []uint32{513, 4000} }, 1},
		"another UPN":          {func(w *world) { w.ntlm.upn = "alice@elsewhere.test" }, 1},
		"disabled in the row":  {func(w *world) { w.named(1105, func(u *identity.User) { u.State |= identity.Disabled }) }, 1},
		"another account name": {func(w *world) { w.named(1105, func(u *identity.User) { u.Account = "ALICE" }) }, 1},
	} {
		w := newWorld(t)
		w.ntlm = &dc{rid: 1105, upn: "Alice@Contoso.test", groups: []uint32{513}}
		tc.change(w)
		_, err := w.respond("AADDSEX", "alice", "good")
		if (err != nil) != strings.HasPrefix(name, "disabled") {
			t.Errorf("%s: %v", name, err)
		}
		if n := w.reads.Load(); n != tc.reads {
			t.Errorf("%s: the directory was asked %d times, want %d", name, n, tc.reads)
		}
	}
}
