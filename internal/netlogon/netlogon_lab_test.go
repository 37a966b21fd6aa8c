// SPDX-License-Identifier: Apache-2.0

//go:build lab

package netlogon_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
	"github.com/latchkey-nas/latchkey/internal/netlogon/ntlmtest"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

const machinePassword = "Maschine-Passw0rd!ü"

// place is a domain, a machine account in it and a pool in a box.
type place struct {
	*lab.Domain
	t    *testing.T
	box  *lab.Box
	pool *netlogon.Pool

	mu        sync.Mutex
	passwords []string
	servers   []netlogon.Server
	mschap    bool
}

// Account gives the machine's account.
func (p *place) Account(context.Context) (*netlogon.Account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &netlogon.Account{Domain: p.NetBIOS, Name: "NAS1$"}
	for _, s := range p.passwords {
		a.Passwords = append(a.Passwords, secret.FromString(s))
	}
	return a, nil
}

// Servers gives the domain controllers, those that failed last.
func (p *place) Servers(context.Context) ([]netlogon.Server, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]netlogon.Server(nil), p.servers...), nil
}

// Good changes nothing.
func (p *place) Good(netip.Addr) {}

// Bad puts the one at a to the end.
func (p *place) Bad(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.servers {
		if s.Addr == a {
			p.servers = append(append(p.servers[:i:i], p.servers[i+1:]...), s)
			return
		}
	}
}

func start(t *testing.T) *place {
	t.Helper()
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	p := &place{Domain: d, t: t, box: d.StartBox(t, "nas1", lab.BoxOptions{UseDNS: true}), passwords: []string{machinePassword}}
	p.servers = []netlogon.Server{{Name: d.DC.FQDN(), Addr: netip.MustParseAddr(d.DC.IP())}}
	if _, err := d.Apply(t.Context(), lab.Change{Op: "add", DN: "CN=NAS1,CN=Computers," + d.BaseDN(), Set: map[string][][]byte{
		"objectClass": lab.Text("computer"), "sAMAccountName": lab.Text("NAS1$"), "userAccountControl": lab.Text("4096")}}); err != nil {
		t.Fatal(err)
	}
	if err := d.SetPassword(t.Context(), "NAS1$", machinePassword); err != nil {
		t.Fatal(err)
	}
	p.pool = p.newPool()
	return p
}

func (p *place) newPool() *netlogon.Pool {
	pool := netlogon.New(netlogon.Config{Machine: p, Servers: p, Dial: p.box.Dial, MSCHAPv2: func() bool { return p.mschap },
		Log: slog.New(slog.NewTextHandler(p.t.Output(), nil))})
	p.t.Cleanup(pool.Close)
	return pool
}

// ask signs in by NTLMv2 with the names as a client might type them.
func (p *place) ask(ctx context.Context, domain, user, password string) (*netlogon.Validation, ntlmtest.Answer, error) {
	a := ntlmtest.New(domain, user, password)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	v, err := p.pool.SamLogon(ctx, netlogon.Logon{Domain: domain, User: user, Workstation: "CLIENT", Challenge: a.Challenge, NT: a.NT, LM: a.LM, Parameters: 0x820})
	return v, a, err
}

func TestLabSamLogon(t *testing.T) {
	p := start(t)
	begun := time.Now()
	v, a, err := p.ask(t.Context(), p.NetBIOS, lab.UserName(1), lab.UserPassword(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the first took %v", time.Since(begun))
	begun = time.Now()
	if _, _, err := p.ask(t.Context(), p.NetBIOS, lab.UserName(1), lab.UserPassword(1)); err != nil {
		t.Fatal(err)
	}
	t.Logf("the second took %v", time.Since(begun))
	o, err := p.Find(t.Context(), lab.UserName(1))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(v.SessionKey.Reveal(), a.Key[:]) {
		t.Error("the session key is not the client's")
	}
	if v.SID() != o.SID || v.EffectiveName != lab.UserName(1) || v.LogonDomain != p.NetBIOS || v.PrimaryGroupRID != 513 || v.UPN == "" || v.DNSDomain == "" || len(v.Groups) == 0 {
		t.Errorf("validation = %+v, want SID %v", v, o.SID)
	}
	t.Logf("%+v", v)
	_, _, err = p.ask(t.Context(), p.NetBIOS, lab.UserName(1), "wrong")
	if code, ok := netlogon.StatusOf(err); !ok || code != netlogon.StatusWrongPassword || !fault.Is(err, fault.BadCredential) {
		t.Errorf("wrong password: %v", err)
	}
}
