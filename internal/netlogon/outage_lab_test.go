// SPDX-License-Identifier: Apache-2.0

//go:build lab

package netlogon_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
)

func TestLabOutages(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	good := func(what string) time.Duration {
		t.Helper()
		begun := time.Now()
		if _, _, err := p.ask(ctx, p.NetBIOS, lab.UserName(1), lab.UserPassword(1)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return time.Since(begun)
	}
	good("first")
	if err := errors.Join(p.DC.Kill(ctx), p.DC.Start(ctx)); err != nil {
		t.Fatal(err)
	}
	t.Logf("after a restart of the DC the next question took %v", good("after a restart"))
	if err := p.DC.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	_, _, err := p.ask(ctx, p.NetBIOS, lab.UserName(1), lab.UserPassword(1))
	p.want("no DC", err, 0, fault.Unreachable)
	if err := p.DC.Start(ctx); err != nil {
		t.Fatal(err)
	}
	good("again")
	for what, out := range map[string]struct{ begin, end func() error }{
		"cable":      {func() error { return p.DC.SetLink(false) }, func() error { return p.DC.SetLink(true) }},
		"black hole": {func() error { return p.DC.Blackhole(ctx) }, func() error { return p.DC.Heal(ctx) }},
		"stopped": {func() error { _, err := p.DC.Signal(ctx, syscall.SIGSTOP, "samba"); return err },
			func() error { _, err := p.DC.Signal(ctx, syscall.SIGCONT, "samba"); return err }},
	} {
		if err := out.begin(); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		begun := time.Now()
		_, _, err := p.ask(short, p.NetBIOS, "user00005", "wrong")
		p.want(what, err, 0, fault.Unreachable)
		t.Logf("%s: %v after %v", what, err, time.Since(begun))
		cancel()
		if err := out.end(); err != nil {
			t.Fatal(err)
		}
		good("after " + what)
	}
	// Of the wrong passwords at most the one that reached a stopped DC counts.
	if n := p.badCount("user00005"); n != "0" && n != "1" && n != "" {
		t.Errorf("three lost questions were counted %s times", n)
	}
}

// The domain controller is killed while many sign in. Who is right gets in or is
// told that nobody could decide, and nobody's wrong password counts twice.
func TestLabKilledUnderLoad(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	stop := make(chan struct{})
	var all sync.WaitGroup
	var good, undecided atomic.Int32
	for g := range 6 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := 1 + (g+i)%8
				v, a, err := p.ask(ctx, p.NetBIOS, lab.UserName(n), lab.UserPassword(n))
				switch {
				case err == nil && bytes.Equal(v.SessionKey.Reveal(), a.Key[:]) && v.EffectiveName == lab.UserName(n):
					good.Add(1)
				case fault.Is(err, fault.Unreachable):
					undecided.Add(1)
					time.Sleep(5 * time.Millisecond)
				default:
					t.Errorf("user %d: %+v, %v", n, v, err)
				}
			}
		})
	}
	const first, last = 10, 39
	all.Go(func() {
		for n := first; n <= last; n++ {
			_, _, err := p.ask(ctx, p.NetBIOS, lab.UserName(n), "wrong")
			if !fault.Is(err, fault.BadCredential) && !fault.Is(err, fault.Unreachable) {
				t.Errorf("a wrong password of user %d: %v", n, err)
			}
			time.Sleep(50 * time.Millisecond) // all of them over both outages
		}
	})
	for range 2 {
		time.Sleep(200 * time.Millisecond)
		if err := errors.Join(p.DC.Kill(ctx), p.DC.Start(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	close(stop)
	all.Wait()
	t.Logf("%d let in, %d undecided", good.Load(), undecided.Load())
	if good.Load() == 0 || undecided.Load() == 0 {
		t.Error("the outage was none, or the test was none")
	}
	for n := first; n <= last; n++ {
		if c := p.badCount(lab.UserName(n)); c != "0" && c != "1" && c != "" {
			t.Errorf("user %d: one wrong password was counted %s times", n, c)
		}
	}
	if _, _, err := p.ask(ctx, p.NetBIOS, lab.UserName(1), lab.UserPassword(1)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestLabTwoControllers(t *testing.T) {
	p := startWith(t, lab.DomainOptions{DCs: 2, Population: lab.Population{Users: 5}})
	ctx := t.Context()
	second := p.DCs[1]
	if err := p.WaitReplicated(ctx); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.servers = append(p.servers, netlogon.Server{Name: second.FQDN(), Addr: netip.MustParseAddr(second.IP())})
	p.mu.Unlock()
	asked := func(what, dc string) {
		t.Helper()
		begun := time.Now()
		if _, _, err := p.ask(ctx, p.NetBIOS, lab.UserName(1), lab.UserPassword(1)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := p.pool.DC(); got != dc {
			t.Errorf("%s: asked %s, want %s", what, got, dc)
		}
		t.Logf("%s: %v", what, time.Since(begun))
	}
	asked("both there", p.DC.FQDN())
	if err := p.DC.Blackhole(ctx); err != nil {
		t.Fatal(err)
	}
	asked("the first silently lost", second.FQDN())
	if err := p.DC.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	asked("the first back", second.FQDN())
	if err := second.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	asked("the second killed", p.DC.FQDN())
}
