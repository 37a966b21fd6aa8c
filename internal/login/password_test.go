// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func TestPasswordsThatAreNone(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	for name, p := range map[string]string{"empty": "", "long": strings.Repeat("x", 1025), "not UTF-8": "a\xff", "NUL": "wonder land\x00"} {
		_, err := w.try("alice", p)
		wantKind(t, name, err, fault.BadCredential)
	}
	for _, r := range w.kdc.Requests() {
		if r.Kind == "AS" {
			t.Errorf("the KDC was asked: %+v", r)
		}
	}
}

func TestNoPasswordInTheAudit(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	_, _ = w.try("alice", "wonder land")
	_, _ = w.try("alice", "s3cret-guess")
	w.events()
	text, err := os.ReadFile(w.file)
	if err != nil || strings.Contains(string(text), "wonder land") || strings.Contains(string(text), "s3cret-guess") {
		t.Errorf("%v; the audit: %s", err, text)
	}
}

func TestExpiryIsToldFromFourteenDaysBefore(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		left       time.Duration
		alice, bob string
	}{
		{0, "", ""}, {15 * day, "", ""},
		{14*day - time.Hour, "Your password expires in 13 days. Change it with passwd.", "Your password expires in 13 days. Change it at https://password.example.test"},
		{2*day + time.Hour, "Your password expires in 2 days. Change it with passwd.", "Your password expires in 2 days. Change it at https://password.example.test"},
		{day + time.Hour, "Your password expires tomorrow. Change it with passwd.", "Your password expires tomorrow. Change it at https://password.example.test"},
		{time.Hour, "Your password expires today. Change it with passwd.", "Your password expires today. Change it at https://password.example.test"},
	} {
		w := newWorld(t)
		w.allow("sshd", "*")
		bob := w.kdc.Add(krbBob)
		w.ntlm = &dc{rid: 1105}
		if tc.left != 0 {
			at := time.Now().Add(tc.left)
			w.kdc.Change(func() { w.alice.Expires, bob.Expires = at, at })
			w.ntlm.expires = at
		}
		for _, who := range []struct{ name, password, want string }{{"alice", "wonder land", tc.alice}, {"bob", "builder", tc.bob}} {
			r, err := w.try(who.name, who.password)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(r.Warnings, " "); got != who.want || r.PasswordExpires.IsZero() != (tc.left == 0) {
				t.Errorf("%s, %s before: told %q until %v, want %q", who.name, tc.left, got, r.PasswordExpires, who.want)
			}
		}
		r, err := w.respond("AADDSEX", "alice", "good")
		if err != nil || strings.Join(r.Warnings, " ") != tc.alice {
			t.Errorf("by NTLM, %s before: %+v, %v, want %q", tc.left, r, err, tc.alice)
		}
		c := w.login.Begin(login.Request{Name: "alice", Service: "sshd"}) // at a terminal it is among the texts
		s, err := c.Next(t.Context(), secret.FromString("wonder land"))
		c.Close()
		if err != nil || strings.Join(s.Tell, " ") != tc.alice {
			t.Errorf("in a conversation, %s before: %+v, %v", tc.left, s, err)
		}
	}
}

// A refusal belongs to a password as it was: once the directory has another
// pwdLastSet, the same words are sent again.
func TestRefusalIsForgottenWhenThePasswordChanges(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	_, err := w.try("alice", "looking glass")
	wantKind(t, "before the change", err, fault.BadCredential)
	w.kdc.Change(func() { w.alice.Password = "looking glass" })
	_, err = w.try("alice", "looking glass")
	wantKind(t, "while the directory says that it is the same", err, fault.BadCredential)
	w.named(1105, func(u *identity.User) { u.PasswordLastSet = u.PasswordLastSet.Add(time.Hour) })
	if _, err := w.try("alice", "looking glass"); err != nil {
		t.Errorf("after the change: %v", err)
	}
	if n := w.bad(); n != 1 {
		t.Errorf("the domain counted %d, want 1", n)
	}
}
