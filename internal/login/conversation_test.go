// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func TestConversation(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	req := login.Request{Name: "alice", Service: "sshd", Door: "pam"}
	c := w.login.Begin(req)
	s, err := c.Next(ctx, secret.Bytes{})
	if err != nil || s.Ask == nil || s.Ask.Text != "Password: " || s.Ask.Echo {
		t.Fatalf("first step %+v, %v", s, err)
	}
	// The service is closed: that is account's question.
	if s, err = c.Next(ctx, secret.FromString("wonder land")); err != nil || s.Done == nil || s.Done.User.Name != "alice" {
		t.Fatalf("second step %+v, %v", s, err)
	}
	if _, err := c.Next(ctx, secret.FromString("wonder land")); !fault.Is(err, fault.Malformed) {
		t.Errorf("after the end: %v", err)
	}
	c.Close()

	c = w.login.Begin(req) // an empty password is an answer, too
	_, _ = c.Next(ctx, secret.Bytes{})
	_, err = c.Next(ctx, secret.Bytes{})
	wantKind(t, "empty answer", err, fault.BadCredential)
	c.Close()

	c = w.login.Begin(req)
	_, _ = c.Next(ctx, secret.Bytes{})
	c.Close()
	c.Close()

	w.kdc.Change(func() { w.alice.Code, w.alice.Status = 23, uint32(kerberos.StatusMustChange) })
	c = w.login.Begin(req)
	if s, err = c.Next(ctx, secret.FromString("wonder land")); err != nil || s.Ask == nil || s.Ask.Text != "New password: " || len(s.Tell) == 0 {
		t.Fatalf("must change: %+v, %v", s, err)
	}
	_, _ = c.Next(ctx, secret.FromString("new one"))
	if s, err = c.Next(ctx, secret.FromString("another")); !fault.Is(err, fault.MustChange) || len(s.Tell) == 0 {
		t.Errorf("two that differ: %+v, %v", s, err)
	}
	c.Close()

	got := w.events()
	var outcomes []string
	for _, e := range got {
		outcomes = append(outcomes, string(e.Outcome))
	}
	if want := "allowed refused abandoned refused"; strings.Join(outcomes, " ") != want {
		t.Errorf("events %v, want %s", outcomes, want)
	}
}
