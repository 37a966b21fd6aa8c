// SPDX-License-Identifier: Apache-2.0

//go:build lab

package login_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func labNTLM(t *testing.T, g *ground) {
	g.set.Store(&login.Settings{})
	r, err := g.respond(lab.UserName(4), lab.UserPassword(4))
	if err != nil {
		t.Fatal(err)
	}
	if r.User.Name != lab.UserName(4) || r.How != login.ByNTLM || r.Validation.SID() != r.User.SID || r.User.UID == 0 {
		t.Errorf("%+v, %+v", r.Result, r.Validation)
	}
	r.Wipe()
	for who, tc := range map[string]struct {
		password string
		kind     fault.Kind
		status   uint32
	}{lab.UserName(5): {"not it", fault.BadCredential, netlogon.StatusWrongPassword}, "disabled": {labWord, fault.Disabled, netlogon.StatusAccountDisabled},
		"locked": {labWord, fault.Locked, netlogon.StatusAccountLockedOut}, "nobody-at-all": {"x", fault.NotFound, 0}} {
		_, err := g.respond(who, tc.password)
		wantKind(t, who, err, tc.kind)
		if code, _ := login.NTStatus(err); code != tc.status {
			t.Errorf("%s: NTSTATUS 0x%08X, want 0x%08X", who, code, tc.status)
		}
	}
	if n := g.attr(lab.UserName(5), "badPwdCount"); n != "1" {
		t.Errorf("the domain counted %s, want 1", n)
	}
	// The Kerberos keys are there and the NT hash is noise, as where Entra
	// Connect does not synchronise it.
	if _, err := g.try("nohash", labWord); err != nil {
		t.Fatal(err)
	}
	_, err = g.respond("nohash", labWord)
	wantKind(t, "no NT hash", err, fault.BadCredential)
	if !strings.Contains(fault.Remedy(err), "NTLM") || g.login.Suspicions().NTLM != 1 {
		t.Errorf("it is not recognised: %q, %+v", fault.Remedy(err), g.login.Suspicions())
	}
}

func labLockout(t *testing.T, g *ground) {
	ctx := t.Context()
	root := func(set map[string][][]byte) {
		t.Helper()
		_, err := g.Apply(ctx, lab.Change{Op: "modify", DN: g.BaseDN(), Set: set})
		g.must(err)
	}
	root(map[string][][]byte{"lockoutThreshold": lab.Text("3"), "lockOutObservationWindow": lab.Text("-18000000000"), "lockoutDuration": lab.Text("-18000000000")})
	defer root(map[string][][]byte{"lockoutThreshold": lab.Text("0")})
	g.must(g.client.Do(ctx, func(c *directory.Conn) error {
		d, err := c.Domain(ctx)
		if err == nil {
			g.lockout.Store(&login.Lockout{Threshold: d.Policy.LockoutThreshold, Window: d.Policy.LockoutWindow})
		}
		return err
	}))
	defer g.lockout.Store(&login.Lockout{})
	if got := *g.lockout.Load(); got != (login.Lockout{Threshold: 3, Window: 30 * time.Minute}) {
		t.Errorf("the directory's lockout is read as %+v", got)
	}
	for host := range 5 {
		for n := range 3 {
			_, err := g.login.Authenticate(ctx, login.Request{Name: "guessed", Service: "sshd", Door: "test", RemoteHost: fmt.Sprint("192.0.2.", 100+host)}, secret.FromString(fmt.Sprint("guess", host, n)))
			if err == nil {
				t.Fatal("a guess let in")
			}
			_, _ = g.respond("guessed", fmt.Sprint("guess", host, n))
		}
	}
	if n, at := g.attr("guessed", "badPwdCount"), g.attr("guessed", "lockoutTime"); n != "2" || at != "" && at != "0" {
		t.Errorf("after 30 guesses the domain counted %s, want 2; locked at %q", n, at)
	}
}
