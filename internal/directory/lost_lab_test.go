// SPDX-License-Identifier: Apache-2.0

//go:build lab

package directory_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func TestLabTheDCRestarts(t *testing.T) {
	p := start(t, 200, 40)
	ctx := t.Context()
	c := p.asUser(t, 1)
	ask := func(conn *directory.Conn) error {
		_, err := conn.RootDSE(ctx)
		return err
	}
	if err := c.Do(ctx, ask); err != nil {
		t.Fatal(err)
	}
	if err := p.DC.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(ctx, ask); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	// In the middle of a pass: an error, never a short success.
	n := 0
	conn := p.conn(t, c)
	_, err := conn.ReadAll(ctx, 0, func(directory.Object) error {
		if n++; n == 1 {
			return p.DC.Kill(ctx)
		}
		return nil
	})
	small := n == 0
	if small {
		t.Fatal("nothing was read")
	}
	if err == nil && n < 240 {
		t.Errorf("a pass of %d objects ended well although the DC died", n)
	}
	if _, err := conn.RootDSE(ctx); !fault.Is(err, fault.Unreachable) || conn.Alive() {
		t.Errorf("the old connection: %v, alive %v, want unreachable", err, conn.Alive())
	}
	if err := p.DC.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(ctx, ask); err != nil {
		t.Errorf("after the power cut: %v", err)
	}
}

func TestLabTheDCIsSilentlyLost(t *testing.T) {
	p := start(t, 200, 40)
	c := p.asUser(t, 1)
	conn := p.conn(t, c)
	if err := p.DC.Blackhole(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := conn.RootDSE(ctx); !fault.Is(err, fault.Unreachable) || !errors.Is(err, context.DeadlineExceeded) || conn.Alive() {
		t.Errorf("RootDSE = %v, alive %v, want unreachable by deadline", err, conn.Alive())
	}
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := c.Conn(short); !fault.Is(err, fault.Unreachable) {
		t.Errorf("Conn = %v, want unreachable", err)
	}
	if err := p.DC.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), func(c *directory.Conn) error { _, err := c.RootDSE(t.Context()); return err }); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// TestLabAnImpostorIsRefused: a machine that an ordinary user joined gives
// itself the service name of a DC. It has keys of the domain, and is none.
func TestLabAnImpostorIsRefused(t *testing.T) {
	p := start(t, 200, 40)
	ctx := t.Context()
	user := p.conn(t, p.asUser(t, 1))
	evil := "evil." + p.DNS
	if err := user.Add(ctx, "CN=EVIL,"+p.ComputersDN(), []directory.Attribute{directory.Text("objectClass", "computer"), directory.Text("sAMAccountName", "EVIL$"),
		directory.Text("userAccountControl", "4096"), directory.Text("dNSHostName", evil), directory.Text("servicePrincipalName", "host/"+evil, "ldap/"+evil),
		{Name: "unicodePwd", Values: [][]byte{directory.UnicodePwd(secret.FromString("Passw0rd!Evil-machine"))}}}); err != nil {
		t.Fatal(err)
	}
	s := kerberos.NewSession(p.kerberos(), kerberos.Account("user00002", p.Realm()), password(lab.UserPassword(2)))
	defer s.Close()
	for host, want := range map[string]bool{evil: false, p.DC.FQDN(): true} {
		tk, err := s.Ticket(ctx, "ldap", host)
		if err != nil {
			t.Fatal(err)
		}
		if got := tk.Flags&kerberos.FlagDelegateOK != 0; got != want {
			t.Errorf("the KDC calls %s trusted: %v, want %v", host, got, want)
		}
	}
}
