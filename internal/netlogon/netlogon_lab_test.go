// SPDX-License-Identifier: Apache-2.0

//go:build lab

package netlogon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
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
	return startWith(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
}

func startWith(t *testing.T, options lab.DomainOptions) *place {
	t.Helper()
	d := lab.Start(t, options)
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
	a := ntlmtest.New(domain, user, password, ntlmtest.Info(p.NetBIOS, "NAS1"))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	v, err := p.pool.SamLogon(ctx, netlogon.Logon{Domain: domain, User: user, Workstation: "CLIENT", Challenge: a.Challenge, NT: a.NT, LM: a.LM, Parameters: 0x820})
	return v, a, err
}

// want checks how an attempt ended.
func (p *place) want(what string, err error, code uint32, kind fault.Kind) {
	p.t.Helper()
	got, _ := netlogon.StatusOf(err)
	if got != code || fault.KindOf(err) != kind {
		p.t.Errorf("%s: %v (0x%08X, %v), want 0x%08X, %v", what, err, got, fault.KindOf(err), code, kind)
	}
}

// badCount is how many wrong passwords the domain has counted for an account.
func (p *place) badCount(name string) string {
	p.t.Helper()
	found, err := p.Search(p.t.Context(), p.BaseDN(), "(sAMAccountName="+name+")", "badPwdCount")
	if err != nil || len(found) != 1 {
		p.t.Fatalf("badPwdCount of %s: %v, %v", name, found, err)
	}
	return found[0].Get("badPwdCount")
}

func TestLabSamLogon(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	v, a, err := p.ask(ctx, p.NetBIOS, lab.UserName(1), lab.UserPassword(1))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Wipe()
	o, err := p.Find(ctx, lab.UserName(1))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(v.SessionKey.Reveal(), a.Key[:]) {
		t.Error("the session key is not the client's own")
	}
	if v.SID() != o.SID || v.EffectiveName != lab.UserName(1) || v.LogonDomain != p.NetBIOS || v.PrimaryGroupRID != 513 ||
		v.UPN != lab.UserName(1)+"@"+p.UPNSuffix || v.DNSDomain != p.DNS || len(v.Groups) < 2 || v.LogonServer != "DC1" ||
		v.PasswordLastSet.Year() < 2026 || !v.LogoffTime.IsZero() || v.UserAccountControl&0x10 == 0 {
		t.Errorf("validation = %+v, want that of %+v", v, o)
	}
	for _, u := range []lab.User{
		{Name: "jörg.müller", UPN: "Jörg.Müller@contoso.test", Password: "Grüße-42-€uro"},
		{Name: "disabled", Password: "Passw0rd!Lab", Disabled: true},
		{Name: "mustchange", Password: "Passw0rd!Lab", Attrs: map[string][][]byte{"userAccountControl": lab.Text("512")}},
		{Name: "expired", Password: "Passw0rd!Lab"}, {Name: "locked", Password: "Passw0rd!Lab"}, {Name: "nohash", Password: "Passw0rd!Lab"},
		{Name: "hours", Password: "Passw0rd!Lab", Attrs: map[string][][]byte{"logonHours": {make([]byte, 21)}}},
		{Name: "desk", Password: "Passw0rd!Lab", Attrs: map[string][][]byte{"userWorkstations": lab.Text("DESK1,DESK2")}},
	} {
		if _, err := p.AddUser(ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.MustChange(ctx, "mustchange"), p.Expire(ctx, "expired", time.Now().Add(-time.Hour)), p.Lock(ctx, "locked"), p.RandomNTHash(ctx, "nohash")); err != nil {
		t.Fatal(err)
	}
	const ok = fault.Unknown
	for _, tc := range []struct {
		what, domain, user, password string
		code                         uint32
		kind                         fault.Kind
		foreign                      bool
	}{
		{"account", p.NetBIOS, "user00001", lab.UserPassword(1), 0, ok, false},
		{"account, other case", strings.ToLower(p.NetBIOS), "USER00001", lab.UserPassword(1), 0, ok, false},
		{"no domain", "", "user00001", lab.UserPassword(1), 0, ok, false},
		{"DNS name of the domain", p.DNS, "user00001", lab.UserPassword(1), 0, ok, false},
		{"not ASCII", p.NetBIOS, "jörg.müller", "Grüße-42-€uro", 0, ok, false},
		{"UPN, no domain", "", "user00001@contoso.test", lab.UserPassword(1), 0, ok, false},
		{"wrong password", p.NetBIOS, "user00002", "wrong", netlogon.StatusWrongPassword, fault.BadCredential, false},
		{"no NT hash that fits", p.NetBIOS, "nohash", "Passw0rd!Lab", netlogon.StatusWrongPassword, fault.BadCredential, false},
		{"unknown", p.NetBIOS, "nobody-of-that-name", "x", netlogon.StatusNoSuchUser, fault.NotFound, false},
		{"unknown domain", "ELSEWHERE", "user00001", lab.UserPassword(1), netlogon.StatusNoSuchUser, fault.NotFound, true},
		{"disabled", p.NetBIOS, "disabled", "Passw0rd!Lab", netlogon.StatusAccountDisabled, fault.Disabled, false},
		{"locked", p.NetBIOS, "locked", "Passw0rd!Lab", netlogon.StatusAccountLockedOut, fault.Locked, false},
		{"expired", p.NetBIOS, "expired", "Passw0rd!Lab", netlogon.StatusAccountExpired, fault.Expired, false},
		{"must change", p.NetBIOS, "mustchange", "Passw0rd!Lab", netlogon.StatusPasswordMustChange, fault.MustChange, false},
		{"hours", p.NetBIOS, "hours", "Passw0rd!Lab", netlogon.StatusInvalidLogonHours, fault.Denied, false},
		{"workstation", p.NetBIOS, "desk", "Passw0rd!Lab", netlogon.StatusInvalidWorkstation, fault.Denied, false},
		{"anonymous", "", "", "", netlogon.StatusNoSuchUser, fault.NotFound, false},
	} {
		v, a, err := p.ask(ctx, tc.domain, tc.user, tc.password)
		p.want(tc.what, err, tc.code, tc.kind)
		if s := (*netlogon.Status)(nil); errors.As(err, &s) && s.Foreign != tc.foreign {
			t.Errorf("%s: foreign = %v, want %v", tc.what, s.Foreign, tc.foreign)
		}
		if err == nil && !bytes.Equal(v.SessionKey.Reveal(), a.Key[:]) {
			t.Errorf("%s: the session key is not the client's own", tc.what)
		}
		v.Wipe()
	}
	if n := p.badCount("user00002"); n != "1" {
		t.Errorf("one wrong password was counted %s times", n)
	}

	// A response made for another server than this one.
	elsewhere := ntlmtest.New(p.NetBIOS, "user00001", lab.UserPassword(1), ntlmtest.Info(p.NetBIOS, "OTHERNAS"))
	_, err = p.pool.SamLogon(ctx, netlogon.Logon{Domain: p.NetBIOS, User: "user00001", Challenge: elsewhere.Challenge, NT: elsewhere.NT})
	p.want("made for another server", err, netlogon.StatusLogonFailure, fault.BadCredential)
}

// setNTLM sets which NTLM the domain controller takes, and restarts it.
func (p *place) setNTLM(word string) {
	p.t.Helper()
	ctx := p.t.Context()
	const file = "/etc/samba/smb.conf"
	b, err := p.DC.ReadFile(ctx, file)
	if err != nil {
		p.t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, "ntlm auth =") })
	if i < 0 {
		p.t.Fatalf("no ntlm auth in %s", b)
	}
	lines[i] = "\tntlm auth = " + word
	text := strings.Join(lines, "\n")
	if err := errors.Join(p.DC.Kill(ctx), p.DC.WriteFile(ctx, file, []byte(text), 0o644), p.DC.Start(ctx)); err != nil {
		p.t.Fatal(err)
	}
}

func TestLabKindsOfNTLM(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	p.setNTLM("mschapv2-and-ntlmv2-only")
	challenge, nt := ntlmtest.MSCHAPv2("user00003", lab.UserPassword(3), [16]byte{1}, [16]byte{2})
	chap := netlogon.Logon{Domain: p.NetBIOS, User: "user00003", Challenge: challenge, NT: nt, Parameters: 0x820}
	ask := func() error {
		v, err := p.pool.SamLogon(ctx, chap)
		v.Wipe()
		return err
	}
	p.want("NTLMv1", ask(), netlogon.StatusNTLMBlocked, fault.Denied)
	chap.Parameters |= netlogon.ParameterMSCHAPv2
	p.want("MS-CHAPv2, not allowed", ask(), netlogon.StatusNTLMBlocked, fault.Denied)
	p.mschap = true
	p.want("MS-CHAPv2, allowed", ask(), 0, fault.Unknown)
	chap.NT[0]++
	p.want("MS-CHAPv2, wrong", ask(), netlogon.StatusWrongPassword, fault.BadCredential)

	p.setNTLM("disabled")
	_, _, err := p.ask(ctx, p.NetBIOS, "user00001", lab.UserPassword(1))
	p.want("NTLM switched off in the domain", err, netlogon.StatusNTLMBlocked, fault.Denied)
	if s := p.pool.State(); s.Blocked.IsZero() || fault.Remedy(s.Problem) == "" {
		t.Errorf("state = %+v", s)
	}
}

func TestLabManyGroups(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	var changes []lab.Change
	users := map[string]int{"in5": 5, "in208": 208, "in900": 900}
	for name := range users {
		if _, err := p.AddUser(ctx, lab.User{Name: name, Password: "Passw0rd!Lab"}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 900 {
		var members [][]byte
		for name, n := range users {
			if i < n {
				o, err := p.Find(ctx, name)
				if err != nil {
					t.Fatal(err)
				}
				members = append(members, []byte(o.DN))
			}
		}
		cn := fmt.Sprintf("many%03d", i)
		changes = append(changes, lab.Change{Op: "add", DN: "CN=" + cn + ",CN=Users," + p.BaseDN(), Set: map[string][][]byte{
			"objectClass": lab.Text("group"), "sAMAccountName": lab.Text(cn), "groupType": lab.Text(fmt.Sprint(lab.GlobalGroup)), "member": members}})
	}
	if _, err := p.Apply(ctx, lab.Change{Op: "batch", All: changes, Bulk: true}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second over the same channel: the counter is right
		for name, n := range users {
			begun := time.Now()
			v, a, err := p.ask(ctx, p.NetBIOS, name, "Passw0rd!Lab")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if len(v.Groups) != n+1 || !bytes.Equal(v.SessionKey.Reveal(), a.Key[:]) {
				t.Errorf("%s: %d groups, want %d and the client's key", name, len(v.Groups), n+1)
			}
			t.Logf("%s: %v", name, time.Since(begun))
		}
	}
}

func TestLabSideBySide(t *testing.T) {
	p := start(t)
	var all sync.WaitGroup
	begun := time.Now()
	for g := range 16 {
		all.Go(func() {
			for i := range 20 {
				n := 1 + (g*3+i)%40
				v, a, err := p.ask(t.Context(), p.NetBIOS, lab.UserName(n), lab.UserPassword(n))
				if err != nil || v.EffectiveName != lab.UserName(n) || !bytes.Equal(v.SessionKey.Reveal(), a.Key[:]) {
					t.Errorf("user %d: %v, %v", n, v, err)
				}
				if i%5 == 4 {
					_, _, err := p.ask(t.Context(), p.NetBIOS, "nobody", "x")
					p.want("nobody", err, netlogon.StatusNoSuchUser, fault.NotFound)
				}
			}
		})
	}
	all.Wait()
	t.Logf("384 questions took %v", time.Since(begun))
	s := p.pool.State()
	if s.Good == 0 || s.Asked <= s.Good || s.DC != p.DC.FQDN() || s.Problem != nil {
		t.Errorf("state = %+v", s)
	}
}

func TestLabTheMachinesPassword(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	good := func(what string) {
		t.Helper()
		if _, _, err := p.ask(ctx, p.NetBIOS, lab.UserName(1), lab.UserPassword(1)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	good("first")
	if dc, err := p.pool.Check(ctx); err != nil || dc != p.DC.FQDN() || p.pool.DC() != dc {
		t.Errorf("Check = %q, %v, want %s", dc, err, p.DC.FQDN())
	}
	// Rotated by ourselves: the pending one is the right one.
	if err := p.SetPassword(ctx, "NAS1$", "Neues-Passw0rd!"); err != nil {
		t.Fatal(err)
	}
	good("over the old channel")
	p.mu.Lock()
	p.passwords = []string{machinePassword, "Neues-Passw0rd!"}
	p.mu.Unlock()
	p.pool.Rekey()
	good("with the pending password")
	// Changed by somebody else.
	if err := p.SetPassword(ctx, "NAS1$", "Fremdes-Passw0rd!"); err != nil {
		t.Fatal(err)
	}
	good("over the channel that is open")
	p.pool.Rekey()
	_, _, err := p.ask(ctx, p.NetBIOS, lab.UserName(1), lab.UserPassword(1))
	p.want("changed under us", err, netlogon.StatusAccessDenied, fault.Unreachable)
	if fault.Remedy(err) == "" || p.pool.State().Problem == nil {
		t.Errorf("no remedy, or no problem in the state: %v", err)
	}
	if _, err := p.pool.Check(ctx); err == nil {
		t.Error("Check with a wrong password succeeded")
	}
	// Gone altogether.
	if err := p.Disable(ctx, "NAS1$", true); err != nil {
		t.Fatal(err)
	}
	_, _, err = p.ask(ctx, p.NetBIOS, lab.UserName(1), lab.UserPassword(1))
	if !fault.Is(err, fault.Unreachable) {
		t.Errorf("disabled: %v", err)
	}
	t.Logf("disabled: %v", err)
	if err := errors.Join(p.Disable(ctx, "NAS1$", false), p.SetPassword(ctx, "NAS1$", machinePassword)); err != nil {
		t.Fatal(err)
	}
	good("set right")
	if p.pool.State().Problem != nil {
		t.Error("the problem is still in the state")
	}
}
