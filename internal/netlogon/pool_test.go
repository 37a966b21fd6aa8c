// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func question() Logon {
	return Logon{Domain: "CONTOSO", User: "jörg", Workstation: "DESK", NT: bytes.Repeat([]byte{7}, 300), LM: bytes.Repeat([]byte{9}, 24)}
}

func mustAsk(t *testing.T, p *Pool) *Validation {
	t.Helper()
	v, err := p.SamLogon(t.Context(), question())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSamLogon(t *testing.T) {
	for _, headers := range []bool{true, false} {
		f := newFakeDC(t)
		f.noHeaders.Store(!headers)
		f.groups.Store(3)
		p := f.pool()
		for range 3 {
			v := mustAsk(t, p)
			if v.EffectiveName != "jörg" || v.LogonDomain != "CONTOSO" || v.SID().String() != "S-1-5-21-1-2-3-1106" || len(v.Groups) != 3 || v.Groups[2].RID != 2002 ||
				len(v.ExtraSIDs) != 1 || v.ExtraSIDs[0].SID.String() != "S-1-18-1" || !v.LogonTime.Equal(time.Unix(0, 0)) || !v.KickOffTime.IsZero() {
				t.Errorf("validation = %+v", v)
			}
			if want := append(bytes.Repeat([]byte{1}, 8), bytes.Repeat([]byte{2}, 8)...); !bytes.Equal(v.SessionKey.Reveal(), want) {
				t.Errorf("session key = %x", v.SessionKey.Reveal())
			}
			v.Wipe()
			if !bytes.Equal(v.SessionKey.Reveal(), make([]byte, 16)) {
				t.Error("the key is still there after Wipe")
			}
		}
		if n := f.opened.Load(); n != 1 {
			t.Errorf("%d channels for three questions, want 1", n)
		}
		s := p.State()
		if s.Asked != 3 || s.Good != 3 || s.DC != "dc1.contoso.test" || s.Problem != nil {
			t.Errorf("state = %+v", s)
		}
	}
}

func TestFragments(t *testing.T) {
	f := newFakeDC(t)
	f.groups.Store(900)
	p := f.pool()
	for _, size := range []int32{16, 100, 1000, 5000} {
		f.fragment.Store(size)
		if v := mustAsk(t, p); len(v.Groups) != 900 {
			t.Errorf("fragments of %d bytes: %d groups, want 900", size, len(v.Groups))
		}
	}
	// A request of several fragments.
	l := question()
	l.NT = bytes.Repeat([]byte{1}, maxNTLMv2)
	if _, err := p.SamLogon(t.Context(), l); err != nil {
		t.Error(err)
	}
	if n := f.opened.Load(); n != 1 {
		t.Errorf("%d channels, want 1: the counter of messages went wrong", n)
	}
	// More than anybody has.
	f.groups.Store(200000)
	if _, err := p.SamLogon(t.Context(), question()); !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "over 1048576 bytes") {
		t.Errorf("200000 groups: %v", err)
	}
}

// A domain controller that does not take the channel any more is asked over a
// new one.
func TestAChannelThatIsRefused(t *testing.T) {
	f := newFakeDC(t)
	p := f.pool()
	mustAsk(t, p)
	f.deny.Store(1)
	mustAsk(t, p)
	if o := f.opened.Load(); o != 2 {
		t.Errorf("%d channels, want 2", o)
	}
	f.deny.Store(100)
	_, err := p.SamLogon(t.Context(), question())
	if code, _ := StatusOf(err); code != StatusAccessDenied || !fault.Is(err, fault.Unreachable) {
		t.Errorf("refused for ever: %v", err)
	}
	if o := f.opened.Load(); o > 5 {
		t.Errorf("%d channels for one question", o-2)
	}
}

func TestWhatAnImpostorGets(t *testing.T) {
	f := newFakeDC(t)
	p := f.pool()
	f.liar.Store(true)
	if _, err := p.SamLogon(t.Context(), question()); err == nil || !strings.Contains(err.Error(), "does not know this machine's password") {
		t.Errorf("a server without our password: %v", err)
	}
	f.liar.Store(false)
	for _, missing := range []uint32{needAES, needStrongKey, needSecureRPC} {
		f.flags.Store(^missing)
		_, err := p.SamLogon(t.Context(), question())
		if code, _ := StatusOf(err); code != StatusDowngradeDetected {
			t.Errorf("without %08x: %v", missing, err)
		}
	}
	if n := f.asked.Load(); n != 0 {
		t.Errorf("the question was asked %d times", n)
	}
	f.flags.Store(0)
	mustAsk(t, p)
	f.tamper.Store(true)
	if _, err := p.SamLogon(t.Context(), question()); !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "changed on the way") {
		t.Errorf("a changed answer: %v", err)
	}
}

func TestALostChannel(t *testing.T) {
	f := newFakeDC(t)
	p := f.pool()
	mustAsk(t, p)
	// Closed while nobody asked: noticed before anything is sent.
	f.drop()
	mustAsk(t, p)
	if a, o := f.asked.Load(), f.opened.Load(); a != 2 || o != 2 {
		t.Errorf("asked %d times over %d channels, want 2 and 2", a, o)
	}
	// Closed after the question was read: it may have been counted.
	f.cut.Store(true)
	if _, err := p.SamLogon(t.Context(), question()); !fault.Is(err, fault.Unreachable) {
		t.Errorf("cut: %v", err)
	}
	if a := f.asked.Load(); a != 3 {
		t.Errorf("the question was asked %d times, want 1", a-2)
	}
	mustAsk(t, p)
	// Refused unread: asked again.
	f.refuse.Store(true)
	mustAsk(t, p)
	if a, o := f.asked.Load(), f.opened.Load(); a != 5 || o != 4 {
		t.Errorf("asked %d times over %d channels, want 5 and 4", a, o)
	}
}

func TestRekey(t *testing.T) {
	f := newFakeDC(t)
	f.hold = make(chan struct{})
	p := f.pool()
	done := make(chan error)
	go func() {
		_, err := p.SamLogon(t.Context(), question())
		done <- err
	}()
	for f.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	f.mu.Lock()
	f.password = "another"
	f.mu.Unlock()
	p.Rekey()
	f.hold <- struct{}{}
	if err := <-done; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	go func() { f.hold <- struct{}{} }()
	mustAsk(t, p)
	if o := f.opened.Load(); o != 2 {
		t.Errorf("%d channels, want a second one under the new password", o)
	}
	// A proof is good for two seconds; the clock is the test's.
	for _, want := range []int32{2, 3, 3} {
		if dc, err := p.Check(t.Context()); err != nil || dc != "dc1.contoso.test" || f.opened.Load() != want {
			t.Errorf("Check = %q, %v, %d channels, want %d", dc, err, f.opened.Load(), want)
		}
		if want == 2 {
			p.c.Now = func() time.Time { return time.Now().Add(time.Minute) }
		}
	}
	f.mu.Lock()
	f.password = "a third"
	f.mu.Unlock()
	p.Rekey()
	if _, err := p.Check(t.Context()); err != nil || f.opened.Load() != 4 {
		t.Errorf("Check after another change: %v, %d channels, want 4", err, f.opened.Load())
	}
	p.Close()
	p.Close()
	if _, err := p.SamLogon(t.Context(), question()); !fault.Is(err, fault.Unreachable) {
		t.Errorf("after Close: %v", err)
	}
}

// One channel to a domain controller that went silent takes the others with it.
func TestIdleChannelsOfALostDC(t *testing.T) {
	f := newFakeDC(t)
	f.hold = make(chan struct{})
	p := f.pool()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { mustAsk(t, p) })
	}
	for f.asked.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		f.hold <- struct{}{}
	}
	all.Wait()
	if len(p.idle) != 3 {
		t.Fatalf("%d idle channels, want 3", len(p.idle))
	}
	ctx, cancel := context.WithCancel(t.Context())
	all.Go(func() {
		if _, err := p.SamLogon(ctx, question()); !fault.Is(err, fault.Unreachable) {
			t.Errorf("nobody answers: %v", err)
		}
	})
	for f.asked.Load() < 4 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	all.Wait()
	if len(p.idle) != 0 {
		t.Errorf("%d idle channels to one that is silent", len(p.idle))
	}
	close(f.hold)
	mustAsk(t, p)
}

// A request that was taken is waited for, however long that is beyond the second
// after which one that was not is given up.
func TestASlowAnswer(t *testing.T) {
	f := newFakeDC(t)
	f.hold = make(chan struct{})
	f.groups.Store(900)
	p := f.pool()
	time.AfterFunc(silence+100*time.Millisecond, func() { close(f.hold) })
	if v := mustAsk(t, p); len(v.Groups) != 900 {
		t.Errorf("%d groups, want 900", len(v.Groups))
	}
	if a, o := f.asked.Load(), f.opened.Load(); a != 1 || o != 1 {
		t.Errorf("asked %d times over %d channels, want once", a, o)
	}
}

func TestDeadlines(t *testing.T) {
	f := newFakeDC(t)
	f.hold = make(chan struct{})
	defer close(f.hold)
	p := f.pool()
	// Five questions, four channels, and nobody answers: every one ends with its
	// context, also the one that waits for a channel.
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range channels + 1 {
		all.Go(func() {
			if _, err := p.SamLogon(ctx, question()); !fault.Is(err, fault.Unreachable) {
				t.Errorf("%v, want unreachable", err)
			}
		})
	}
	for f.asked.Load() < channels {
		time.Sleep(time.Millisecond)
	}
	cancel()
	all.Wait()
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.SamLogon(short, question()); !fault.Is(err, fault.Unreachable) || StatusOfZero(err) {
		t.Errorf("a deadline: %v", err)
	}
	// Six questions, the fifth perhaps between two cancellations.
	if a := f.asked.Load(); a > channels+2 {
		t.Errorf("asked %d times: a question was repeated that may have been counted", a)
	}
}

// StatusOfZero says whether err carries a status, which a deadline must not.
// A domain controller that says nothing keeps one sign-in waiting, and not every
// one; but again and again one of them, for it may be slow.
func TestSilenceIsWaitedForOnce(t *testing.T) {
	f := newFakeDC(t)
	now := time.Unix(1000, 0)
	var patience []time.Duration
	silent := true
	looked := &lookedUp{fakeDC: f}
	p := New(Config{Machine: f, Servers: looked, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			until, _ := ctx.Deadline()
			patience = append(patience, time.Until(until).Round(time.Second))
			if silent {
				return nil, context.DeadlineExceeded
			}
			return f.dial(ctx, network, address)
		}})
	t.Cleanup(p.Close)
	ask := func(after time.Duration) time.Duration {
		t.Helper()
		now = now.Add(after)
		patience = nil
		if _, err := p.SamLogon(t.Context(), question()); (err != nil) != silent {
			t.Fatal(err)
		}
		return patience[0]
	}
	for _, step := range []struct{ after, want time.Duration }{{0, callTime}, {time.Second, openTime}, {silentTime - 2*time.Second, openTime}, {2 * time.Second, callTime}, {time.Second, openTime}} {
		if got := ask(step.after); got != step.want {
			t.Errorf("%v later the domain controller had %v to answer, want %v", step.after, got, step.want)
		}
		if looked.patience != step.want {
			t.Errorf("%v later looking it up had %v, want %v", step.after, looked.patience, step.want)
		}
	}
	silent = false
	ask(time.Second)
	p.Rekey()
	if got := ask(time.Second); got != callTime {
		t.Errorf("one that answers again has %v, want %v", got, callTime)
	}
}

// A channel that broke off kept nobody waiting: the next one may be as slow to open
// as any, or a domain controller that was started anew would be given up too soon.
func TestALostChannelIsNoSilence(t *testing.T) {
	f := newFakeDC(t)
	var patience time.Duration
	p := New(Config{Machine: f, Servers: f, Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			until, _ := ctx.Deadline()
			patience = time.Until(until).Round(time.Second)
			return f.dial(ctx, network, address)
		}})
	t.Cleanup(p.Close)
	mustAsk(t, p)
	f.cut.Store(true)
	if _, err := p.SamLogon(t.Context(), question()); !fault.Is(err, fault.Unreachable) {
		t.Fatalf("cut: %v", err)
	}
	for what, lost := range map[string]func(){"after one that was cut": func() {}, "after one that was refused": func() { f.refuse.Store(true) }} {
		lost()
		patience = 0
		mustAsk(t, p)
		if patience != callTime {
			t.Errorf("%s the next channel had %v, want %v", what, patience, callTime)
		}
		f.drop()
	}
}

// lookedUp notes how long the domain controllers may be looked for.
type lookedUp struct {
	*fakeDC
	patience time.Duration
}

func (l *lookedUp) Servers(ctx context.Context) ([]Server, error) {
	until, _ := ctx.Deadline()
	l.patience = time.Until(until).Round(time.Second)
	return l.fakeDC.Servers(ctx)
}

func StatusOfZero(err error) bool { _, ok := StatusOf(err); return ok }

func TestSideBySide(t *testing.T) {
	f := newFakeDC(t)
	p := f.pool()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 20 {
				mustAsk(t, p)
			}
		})
	}
	all.Wait()
	if o := f.opened.Load(); o > channels {
		t.Errorf("%d channels, want %d at most", o, channels)
	}
}

// Netlogon may be on another port after a restart, and another service on its
// old one.
func TestNetlogonMoves(t *testing.T) {
	f := newFakeDC(t)
	p := f.pool()
	mustAsk(t, p)
	f.drop()
	p.places[netip.MustParseAddr("127.0.0.1")] = f.mapper.Addr().(*net.TCPAddr).AddrPort() // where no Netlogon is
	mustAsk(t, p)
	f.drop()
	p.places[netip.MustParseAddr("127.0.0.1")] = netip.MustParseAddrPort("127.0.0.1:1") // nobody
	mustAsk(t, p)
	f.mapper.Close() // not needed a second time
	f.drop()
	mustAsk(t, p)
}

func TestNoDCAndNoMachine(t *testing.T) {
	f := newFakeDC(t)
	f.mapper.Close()
	var log bytes.Buffer
	p := New(Config{Machine: f, Servers: f, Dial: f.dial, Log: slog.New(slog.NewTextHandler(&log, nil))})
	defer p.Close()
	for range 5 {
		if _, err := p.SamLogon(t.Context(), question()); !fault.Is(err, fault.Unreachable) {
			t.Errorf("nobody listens: %v", err)
		}
	}
	if n := strings.Count(log.String(), "no channel"); n != 1 {
		t.Errorf("the log is told %d times:\n%s", n, log.String())
	}
	var none *Pool
	none.Close()
}
