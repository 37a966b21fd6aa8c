// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func ctxFor(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestEverythingAfterTheBindIsSealed(t *testing.T) {
	net, dcs := newNetwork(t, 1)
	c := net.client(t, net.locator(t))
	dcs[0].with(func(q fakeQuery) ([]Entry, bool) {
		return []Entry{{DN: q.base, Attributes: []Attribute{Text("cn", strings.Repeat("long ", 1000))}}}, true
	})
	conn, err := c.Conn(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := conn.Get(ctxFor(t), "CN=clear-text-marker,"+testBase, "cn")
	if err != nil || len(e.First("cn")) != 5000 {
		t.Errorf("Get = %d bytes, %v, want 5000", len(e.First("cn")), err)
	}
	// More than the 1024 bytes that the DC takes in one frame.
	if _, err := conn.Get(ctxFor(t), "CN="+strings.Repeat("clear-text-marker", 200)+","+testBase, "cn"); err != nil {
		t.Errorf("a long request: %v", err)
	}
	dcs[0].mu.Lock()
	defer dcs[0].mu.Unlock()
	if len(dcs[0].raw) < 4000 || bytes.Contains(dcs[0].raw, []byte("clear-text-marker")) {
		t.Errorf("%d bytes went out, the marker in clear: %v", len(dcs[0].raw), bytes.Contains(dcs[0].raw, []byte("clear-text-marker")))
	}
}

func TestEvilServersAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		bend func(*fakeDC)
		want fault.Kind
		text string
	}{
		"offers no seal":             {func(d *fakeDC) { d.layers = layerNone | layerSign }, fault.Denied, "no confidentiality"},
		"offers no layer at all":     {func(d *fakeDC) { d.layers = layerNone }, fault.Denied, "no confidentiality"},
		"success without proof":      {func(d *fakeDC) { d.noProof = true }, fault.BadCredential, "no proof"},
		"any machine of the domain":  {func(d *fakeDC) { d.account.DC = false }, fault.Denied, "domain controller"},
		"does not know the DC's key": {func(d *fakeDC) { other := *d.account; other.Password = "guess"; d.account = &other }, fault.BadCredential, ""},
	} {
		net, dcs := newNetwork(t, 1)
		tc.bend(dcs[0])
		conn, err := net.client(t, net.locator(t)).Conn(ctxFor(t))
		if conn != nil || !fault.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %v about %q", name, err, tc.want, tc.text)
		}
	}
}

func TestAServerThatStopsSealingIsDropped(t *testing.T) {
	net, dcs := newNetwork(t, 1)
	dcs[0].clear = true
	conn, err := net.client(t, net.locator(t)).Conn(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.RootDSE(ctxFor(t))
	if !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "in clear") || conn.Alive() {
		t.Errorf("RootDSE = %v, alive %v, want a dropped connection because of clear text", err, conn.Alive())
	}
}

func TestContextEndsAnOperation(t *testing.T) {
	net, dcs := newNetwork(t, 1)
	l := net.locator(t)
	c := net.client(t, l)
	dcs[0].with(func(q fakeQuery) ([]Entry, bool) { return nil, !strings.Contains(q.base, "never") })
	conn, err := c.Conn(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		// Another operation under way fails with it, and does not hang.
		if _, err := conn.Get(ctxFor(t), "CN=never 2,"+testBase); !fault.Is(err, fault.Unreachable) {
			t.Errorf("the other operation: %v, want unreachable", err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = conn.Get(ctx, "CN=never,"+testBase)
	if !fault.Is(err, fault.Unreachable) || !errors.Is(err, context.DeadlineExceeded) || conn.Alive() {
		t.Errorf("Get = %v, alive %v, want unreachable by deadline", err, conn.Alive())
	}
	wg.Wait()
	if !l.pool.AllBad() {
		t.Error("the silent DC is not remembered as bad")
	}
	if _, err := c.Conn(ctxFor(t)); err != nil {
		t.Errorf("a new connection: %v", err)
	}
}

func TestReconnectAfterTheDCRestarted(t *testing.T) {
	net, dcs := newNetwork(t, 1)
	c := net.client(t, net.locator(t))
	calls := 0
	ask := func(conn *Conn) error {
		calls++
		_, err := conn.RootDSE(ctxFor(t))
		return err
	}
	if err := c.Do(ctxFor(t), ask); err != nil || calls != 1 {
		t.Fatalf("first: %v after %d calls", err, calls)
	}
	first, _ := c.Conn(ctxFor(t))
	dcs[0].hangUp()
	if err := c.Do(ctxFor(t), ask); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	second, err := c.Conn(ctxFor(t))
	if err != nil || second == first || !second.Alive() || first.Alive() {
		t.Errorf("the connection was not replaced: %v", err)
	}
	if dc, ok := c.DC(); !ok || dc.Host != "a.example.test" {
		t.Errorf("DC = %+v, %v", dc, ok)
	}
	// What fails on a live connection is not done twice.
	calls = 0
	err = c.Do(ctxFor(t), func(*Conn) error { calls++; return fault.New(fault.Unreachable, "no") })
	if err == nil || calls != 1 {
		t.Errorf("an error on a live connection: %v after %d calls, want one call", err, calls)
	}
}

// A DC that takes connections and says nothing does not hold up whoever waits behind
// a caller that has no deadline.
func TestASilentDCIsLeftByWhoHasNoDeadline(t *testing.T) {
	defer func(d time.Duration) { connectTime = d }(connectTime)
	connectTime = 500 * time.Millisecond
	n, dcs := newNetwork(t, 2)
	l := n.locator(t, dcs[0].addr.String(), dcs[1].addr.String())
	if _, err := l.Discover(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	l.Good(dcs[0].addr)
	dcs[0].silent = true
	c := n.client(t, l)
	done := make(chan error, 1)
	go func() {
		done <- c.Do(t.Context(), func(conn *Conn) error { _, err := conn.RootDSE(t.Context()); return err })
	}()
	select {
	case err := <-done:
		if dc, ok := c.DC(); err != nil || !ok || dc.Host != dcs[1].host {
			t.Errorf("%v at %s", err, dc.Host)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the silent one")
	}
}

func TestFailover(t *testing.T) {
	net, dcs := newNetwork(t, 2)
	l := net.locator(t, dcs[0].addr.String(), dcs[1].addr.String())
	if _, err := l.Discover(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	l.Good(dcs[0].addr)
	dcs[0].silent = true // takes connections, and that is all
	ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	c := net.client(t, l)
	if _, err := c.Conn(ctx); !fault.Is(err, fault.Unreachable) {
		t.Errorf("first %v, want unreachable", err)
	}
	conn, err := c.Conn(ctxFor(t))
	if err != nil || conn.DC().Host != dcs[1].host {
		t.Errorf("then %v, want the other DC", err)
	}
}

func TestAnImpostorDoesNotKeepUsFromTheRealDC(t *testing.T) {
	for name, bend := range map[string]func(*fakeDC){
		"joined by anybody":       func(d *fakeDC) { d.account.DC = false },
		"of an unknown name":      func(d *fakeDC) { d.account.Aliases = nil },
		"without the right key":   func(d *fakeDC) { other := *d.account; other.Password = "guess"; d.account = &other },
		"offers no seal":          func(d *fakeDC) { d.layers = layerSign },
		"success without a proof": func(d *fakeDC) { d.noProof = true },
	} {
		net, dcs := newNetwork(t, 2)
		l := net.locator(t, dcs[0].addr.String(), dcs[1].addr.String())
		if _, err := l.Discover(ctxFor(t)); err != nil {
			t.Fatal(err)
		}
		l.Good(dcs[0].addr)
		bend(dcs[0])
		if conn, err := net.client(t, l).Conn(ctxFor(t)); err != nil || conn.DC().Host != dcs[1].host {
			t.Errorf("%s: %v, want the other DC", name, err)
		}
	}
	// Our own fault is told at once.
	net, _ := newNetwork(t, 2)
	l := net.locator(t)
	s := kerberos.NewSession(kerberos.NewClient(kerberos.Config{Realm: testRealm, Servers: l, Dial: net.dial}), kerberos.Account("alice", testRealm), password("wrong"))
	defer s.Close()
	c := NewClient(Config{Locator: l, Credential: s, Dial: net.dial})
	if _, err := c.Conn(ctxFor(t)); !fault.Is(err, fault.BadCredential) {
		t.Errorf("with a wrong password: %v, want bad credential", err)
	}
	if n := len(net.kdc.Requests()); n != 2 {
		t.Errorf("a wrong password took %d requests, want 2", n)
	}
}

func TestWritesAndTheirErrors(t *testing.T) {
	net, _ := newNetwork(t, 1)
	conn, err := net.client(t, net.locator(t)).Conn(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	var le *LDAPError
	err = conn.Add(ctxFor(t), "CN=x,"+testBase, []Attribute{Text("objectClass", "computer")})
	if !fault.Is(err, fault.Conflict) || !errors.As(err, &le) || le.Code != 68 || le.WinError != 0x2071 {
		t.Errorf("Add = %v (%+v), want conflict, 68, 0x2071", err, le)
	}
	err = conn.Modify(ctxFor(t), "CN=x,"+testBase, []Change{{Replace, Text("description", "y")}})
	if !fault.Is(err, fault.Denied) || !errors.As(err, &le) || le.Code != 50 {
		t.Errorf("Modify = %v, want denied, 50", err)
	}
	if err := conn.Delete(ctxFor(t), "CN=x,"+testBase); err != nil {
		t.Errorf("Delete = %v", err)
	}
	if got := fmt.Sprintf("%x", UnicodePwd(secret.FromString("pä"))); got != "22007000e4002200" {
		t.Errorf("UnicodePwd = %s", got)
	}
}

func TestManyOperationsSideBySide(t *testing.T) {
	net, dcs := newNetwork(t, 1)
	dcs[0].with(func(q fakeQuery) ([]Entry, bool) {
		return []Entry{{DN: q.base, Attributes: []Attribute{Text("cn", q.base)}}}, true
	})
	conn, err := net.client(t, net.locator(t)).Conn(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				dn := fmt.Sprintf("CN=%d-%d,%s", i, n, testBase)
				if e, err := conn.Get(ctxFor(t), dn, "cn"); err != nil || e.First("CN") != dn {
					t.Errorf("Get(%s) = %v, %v", dn, e, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestRootDSEAndDomain(t *testing.T) {
	net, dcs := newNetwork(t, 1)
	conn, err := net.client(t, net.locator(t)).Conn(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := conn.RootDSE(ctxFor(t))
	if err != nil || r.InvocationID != testInvocation || r.HighestCommittedUSN != 4711 || r.DomainLevel != 7 ||
		r.CurrentTime.Format(time.RFC3339) != "2026-11-22T03:06:32Z" || !slices.Contains(r.SupportedControls, "1.2.840.113556.1.4.528") {
		t.Errorf("RootDSE = %+v, %v", r, err)
	}
	dcs[0].with(func(q fakeQuery) ([]Entry, bool) {
		switch q.base {
		case testBase:
			sid := []byte{1, 4, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0}
			return []Entry{{DN: q.base, Attributes: []Attribute{{"objectSid", [][]byte{sid}}, Text("lockoutThreshold", "5"),
				Text("lockoutDuration", "-18000000000"), Text("maxPwdAge", "-9223372036854775808"), Text("minPwdLength", "7"), Text("pwdProperties", "1")}}}, true
		case "OU=AADDC Users," + testBase:
			return []Entry{{DN: q.base}}, true
		}
		return nil, true
	})
	d, err := conn.Domain(ctxFor(t))
	if err != nil || d.SID.String() != "S-1-5-21-1-2-3" || d.NetBIOS != "EXAMPLE" || d.Realm != testRealm || d.SyncedOU == "" || d.ComputersOU != "" ||
		d.Policy.LockoutThreshold != 5 || d.Policy.LockoutDuration != 30*time.Minute || d.Policy.MaxAge != 0 || !d.Policy.Complex || d.MachineQuota != -1 {
		t.Errorf("Domain = %+v, %v", d, err)
	}
}
