// SPDX-License-Identifier: Apache-2.0

package kerberos_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
)

// wires gives each address its own behaviour, and counts the calls.
type wires struct {
	mu    sync.Mutex
	to    map[netip.Addr]func(net.Conn)
	calls []netip.Addr
}

func (w *wires) dial(ctx context.Context, _, address string) (net.Conn, error) {
	a := netip.MustParseAddrPort(address).Addr()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, a)
	serve := w.to[a]
	if serve == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	go serve(ours)
	return theirs, nil
}

func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func TestTheNextKDCIsAskedWhenOneIsSilent(t *testing.T) {
	kdc, _ := newRealm(t)
	for name, first := range map[string]func(net.Conn){
		"silent":   silent,
		"refused":  nil,
		"hangs up": func(c net.Conn) { c.Close() },
		"cut short": func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte{0, 0, 1, 0, 'x'})
			c.Close()
		},
		"not Kerberos": func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte("\x00\x00\x00\x10HTTP/1.1 400 Bad"))
		},
		"half of a refusal": func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte{0, 0, 0, 4, 0x7e, 2, 0x30, 0})
		},
		"huge": func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); _, _ = c.Write([]byte{0x7f, 0xff, 0xff, 0xff}) },
	} {
		w := &wires{to: map[netip.Addr]func(net.Conn){addr1: first, addr2: kdc.Serve}}
		pool := kerberos.NewPool(addr1, addr2)
		c := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: pool, Dial: w.dial})
		if _, err := c.Login(ctxFor(t), kerberos.Account("alice", realm), password("wonder land")); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a, ok := pool.LastGood(); !ok || a != addr2 {
			t.Errorf("%s: last good = %v, want %v", name, a, addr2)
		}
		w.mu.Lock()
		w.calls = nil
		w.mu.Unlock()
		if _, err := c.Login(ctxFor(t), kerberos.Account("alice", realm), password("wonder land")); err != nil {
			t.Errorf("%s: second login: %v", name, err)
		}
		if want := []netip.Addr{addr2, addr2}; !slices.Equal(w.calls, want) {
			t.Errorf("%s: second login asked %v, want %v", name, w.calls, want)
		}
	}
}

func TestEveryKDCSilentEndsWithTheContext(t *testing.T) {
	w := &wires{to: map[netip.Addr]func(net.Conn){addr1: silent, addr2: silent}}
	pool := kerberos.NewPool(addr1, addr2)
	c := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: pool, Dial: w.dial})
	ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	_, err := c.Login(ctx, kerberos.Account("alice", realm), password("x"))
	if !fault.Is(err, fault.Unreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("login = %v, want unreachable by deadline", err)
	}
}

func TestKDCThatCannotAnswerIsPassedOver(t *testing.T) {
	for what, code := range map[string]int32{"without service": 29, "failing": 60, "with another clock": 37} {
		good, _ := newRealm(t)
		sick := krbtest.New(realm)
		sick.Answer = func([]byte) ([]byte, bool) { return sick.Refusal(code), true }
		w := &wires{to: map[netip.Addr]func(net.Conn){addr1: sick.Serve, addr2: good.Serve}}
		c := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(addr1, addr2), Dial: w.dial})
		if _, err := c.Login(ctxFor(t), kerberos.Account("alice", realm), password("wonder land")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		alone := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(addr1), Dial: w.dial})
		if _, err := alone.Login(ctxFor(t), kerberos.Account("alice", realm), password("x")); !fault.Is(err, fault.Unreachable) {
			t.Errorf("the only KDC is %s: %v, want unreachable", what, err)
		}
		both := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(addr1, addr2), Dial: sick.Dial})
		var refusal *kerberos.Error
		var skew *kerberos.SkewError
		if _, err := both.Login(ctxFor(t), kerberos.Account("alice", realm), password("x")); !errors.As(err, &refusal) && !errors.As(err, &skew) {
			t.Errorf("both are %s: %v, want what they said", what, err)
		}
	}
}

// A KDC that is lost between the question and the proof costs no more than one
// that is lost before; and a proof is at one KDC at a time.
func TestAKDCLostBeforeTheProof(t *testing.T) {
	good, _ := newRealm(t)
	w := &wires{to: map[netip.Addr]func(net.Conn){addr1: good.Serve, addr2: good.Serve}}
	questions := 0
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if a := netip.MustParseAddrPort(address).Addr(); a == addr1 {
			if questions++; questions > 1 { // SYNs are lost
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}
		return w.dial(ctx, network, address)
	}
	pool := kerberos.NewPool(addr1, addr2)
	c := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: pool, Dial: dial})
	ctx, cancel := context.WithTimeout(context.Background(), 1900*time.Millisecond) // less than the patience with one that has the proof
	defer cancel()
	if _, err := c.Login(ctx, kerberos.Account("alice", realm), password("wonder land")); err != nil {
		t.Fatal(err)
	}
	proofs := 0
	for _, r := range good.Requests() {
		if r.Proof {
			proofs++
		}
	}
	if a, _ := pool.LastGood(); proofs != 1 || a != addr2 {
		t.Errorf("%d proofs, the last good KDC is %v; want one, and %v", proofs, a, addr2)
	}
}

func TestAForgedKDCIsAskedLast(t *testing.T) {
	good, _ := newRealm(t)
	forged, _ := newRealm(t) // the same people, and other keys of the machine's
	box := krbtest.Account{Name: []string{"BOX$"}, Password: "machine", Aliases: [][]string{{"host", "box.example.test"}}}
	keys := good.Keytab(good.Add(box))
	box.Password = "guessed"
	forged.Add(box)
	w := &wires{to: map[netip.Addr]func(net.Conn){addr1: forged.Serve, addr2: good.Serve}}
	c := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(addr1, addr2), Dial: w.dial})
	signIn := func() error {
		l, err := c.Login(ctxFor(t), kerberos.Account("alice", realm), password("wonder land"))
		if err == nil {
			_, err = c.Verify(ctxFor(t), l.TGT, kerberos.Service("host", "box.example.test", realm), keys)
		}
		return err
	}
	if err := signIn(); !fault.Is(err, fault.BadCredential) {
		t.Fatalf("a KDC that does not know our key: %v", err)
	}
	if err := signIn(); err != nil {
		t.Errorf("the next sign-in: %v", err)
	}
}
