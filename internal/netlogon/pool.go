// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// channels is how many a Pool opens at most. More are no faster: the domain
// controller works through them one after the other.
const channels = 4

// callTime is how long a question may take where its context allows more. smbd's
// own patience is 20 s, and a domain controller answers in milliseconds, or in
// seconds where it has to ask another about a wrong password.
const callTime = 10 * time.Second

// warnEvery is how often the log is told that a domain controller cannot be
// asked, while everybody who signs in finds it out again.
const warnEvery = 30 * time.Second

// openTime is how long one domain controller may take over a new channel while
// there is another to ask, or in the silentTime after one kept somebody waiting
// in vain: then one sign-in waits for it and not every one.
const (
	openTime   = 2 * time.Second
	silentTime = 15 * time.Second
)

// Config is what a Pool works with. Machine, Servers and Log are required.
type Config struct {
	Machine Machine
	Servers Servers
	Log     *slog.Logger
	// MSCHAPv2 says whether responses of MS-CHAPv2 may be asked about; nil: no.
	MSCHAPv2 func() bool
	// Dial replaces the net.Dialer, for tests.
	Dial Dialer
	// Now replaces time.Now, for tests.
	Now func() time.Time
}

// Pool holds the account's secure channels. Make it with New. Safe for
// concurrent use.
type Pool struct {
	c       Config
	slots   chan struct{} // one for each channel that is in use
	opening chan struct{} // held during a handshake
	// places is where each domain controller served Netlogon; by who holds opening.
	places map[netip.Addr]netip.AddrPort
	warned map[netip.Addr]time.Time // when the log was last told of one; the same

	mu         sync.Mutex
	idle       []*channel // the one used last at the end
	generation uint64
	last       Server
	opened     time.Time // when a channel was opened last, under this generation
	silent     time.Time // when nobody answered though there was time
	closed     bool
	state      State
}

// New returns a Pool that opens its channels when they are needed.
func New(c Config) *Pool {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Pool{c: c, slots: make(chan struct{}, channels), opening: make(chan struct{}, 1), places: map[netip.Addr]netip.AddrPort{}, warned: map[netip.Addr]time.Time{}}
}

// SamLogon asks whether the challenge was answered rightly, in ten seconds at
// most. Errors carry a fault kind and, where the domain controller decided,
// its NTSTATUS (StatusOf): fault.Unreachable when nothing was decided.
//
// A domain controller counts each wrong password that it is asked about. So a
// question is asked again, over another channel or of another domain controller,
// only if the first cannot have been read: nothing was sent, the last byte of it
// was never acknowledged by the other side's kernel within a second and the
// connection has been reset, or the server said that it did not take it up. In
// any other case a broken connection is fault.Unreachable, and whoever signs in
// tries again.
func (p *Pool) SamLogon(ctx context.Context, l Logon) (*Validation, error) {
	l, err := p.admit(l)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	for try := 1; ; try++ {
		ch, err := p.take(ctx)
		if err != nil {
			p.note(err)
			return nil, err
		}
		v, err := ch.logon(ctx, l)
		p.give(ch, err)
		if err == nil || !isUnread(err) || ctx.Err() != nil || try == 3 {
			p.note(err)
			return v, err
		}
		p.c.Log.Info("a channel to the domain controller was lost; asking over another", "dc", ch.server.Name, "error", err)
	}
}

// checkAge is how old a proof of the machine's account may be: whoever asks
// more often, as any local process may, does not have the domain controller
// asked each time.
const checkAge = 2 * time.Second

// Check proves that the machine's account is good, by a channel opened anew, or
// by one that was opened in the last two seconds. It returns the DNS name of the
// domain controller that took it.
func (p *Pool) Check(ctx context.Context) (dc string, err error) {
	p.mu.Lock()
	fresh := !p.closed && !p.opened.IsZero() && p.c.Now().Sub(p.opened).Abs() < checkAge && p.state.Problem == nil
	dc = p.last.Name
	p.mu.Unlock()
	if fresh {
		return dc, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := p.slot(ctx); err != nil {
		return "", err
	}
	ch, err := p.open(ctx, true)
	if err != nil {
		<-p.slots
		p.note(err)
		return "", err
	}
	p.give(ch, nil)
	return ch.server.Name, nil
}

// DC returns the DNS name of the domain controller that was good last, or "".
func (p *Pool) DC() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last.Name
}

// Rekey makes every further channel one under the machine's password of now.
// Calls that are under way finish over the old ones.
func (p *Pool) Rekey() {
	p.mu.Lock()
	p.generation++
	p.opened = time.Time{}
	old := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, ch := range old {
		ch.conn.close()
	}
}

// Close ends the channels; calls that are under way finish. Safe on nil and
// twice.
func (p *Pool) Close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Rekey()
}

// slot waits until one more channel may be used.
func (p *Pool) slot(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Unreachable, "wait for a channel to the domain controller", ctx.Err())
	}
}

// take returns a channel to use, which give takes back.
func (p *Pool) take(ctx context.Context) (*channel, error) {
	if err := p.slot(ctx); err != nil {
		return nil, err
	}
	ch, err := p.open(ctx, false)
	if err != nil {
		<-p.slots
	}
	return ch, err
}

// ready returns an idle channel that is still alive; nil where there is none.
func (p *Pool) ready() *channel {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		ch := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if ch.conn.alive() {
			return ch
		}
		ch.conn.close()
	}
}

// give takes a channel back.
func (p *Pool) give(ch *channel, err error) {
	// Where a domain controller decided, the channel is good.
	_, decided := StatusOf(err)
	broken := err != nil && (!decided || fault.Is(err, fault.Unreachable))
	p.mu.Lock()
	keep := !broken && !ch.conn.dead && !p.closed && ch.generation == p.generation && len(p.idle) < channels
	if keep {
		p.idle = append(p.idle, ch)
		p.last = ch.server
	}
	drop := []*channel{}
	if broken {
		// What else is open to that one is not tried by the next who asks.
		p.idle = slices.DeleteFunc(p.idle, func(other *channel) bool {
			if other.server != ch.server {
				return false
			}
			drop = append(drop, other)
			return true
		})
	}
	p.mu.Unlock()
	if !keep {
		drop = append(drop, ch)
	}
	for _, one := range drop {
		one.conn.close()
	}
	if broken && !errors.Is(err, context.Canceled) {
		p.c.Servers.Bad(ch.server.Addr)
		if keptWaiting(err) {
			p.fellSilent()
		}
	}
	<-p.slots
}

// servers returns the domain controllers in the order in which to ask them.
func (p *Pool) servers(ctx context.Context, hurry bool) ([]Server, error) {
	if hurry {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openTime)
		defer cancel()
	}
	all, err := p.c.Servers.Servers(ctx)
	return all, fault.Wrap(fault.Unreachable, "find a domain controller", err)
}

// fellSilent notes that nobody answered though there was time.
func (p *Pool) fellSilent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = p.c.Now()
}

// open returns an idle channel or, one handshake at a time, a new one; with
// anew, a new one in any case.
func (p *Pool) open(ctx context.Context, anew bool) (*channel, error) {
	if !anew {
		if ch := p.ready(); ch != nil {
			return ch, nil
		}
	}
	select {
	case p.opening <- struct{}{}:
		defer func() { <-p.opening }()
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unreachable, "wait for a channel to the domain controller", ctx.Err())
	}
	if !anew {
		// Whoever was before may have given one back by now.
		if ch := p.ready(); ch != nil {
			return ch, nil
		}
	}
	p.mu.Lock()
	generation, closed := p.generation, p.closed
	hurry := !p.silent.IsZero() && p.c.Now().Sub(p.silent).Abs() < silentTime
	p.mu.Unlock()
	if closed {
		return nil, fault.New(fault.Unreachable, "this machine is leaving its domain")
	}
	account, err := p.c.Machine.Account(ctx)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "read the machine's account", err)
	}
	defer account.Wipe()
	servers, err := p.servers(ctx, hurry)
	if err != nil {
		return nil, err
	}
	err = fault.New(fault.Unreachable, "no domain controller is known")
	for i, server := range servers {
		one, cancel := ctx, context.CancelFunc(func() {})
		if hurry || i < len(servers)-1 {
			one, cancel = context.WithTimeout(ctx, openTime)
		}
		var ch *channel
		var at netip.AddrPort
		ch, at, err = open(one, p.c.Dial, server, p.places[server.Addr], account)
		cancel()
		p.places[server.Addr] = at
		if err == nil {
			delete(p.warned, server.Addr)
			ch.generation = generation
			p.c.Servers.Good(server.Addr)
			p.mu.Lock()
			p.last = server
			if generation == p.generation {
				p.opened = p.c.Now()
			}
			p.mu.Unlock()
			p.works()
			return ch, nil
		}
		if _, decided := StatusOf(err); !decided {
			p.c.Servers.Bad(server.Addr)
		}
		if ctx.Err() != nil {
			break
		}
		level := slog.LevelDebug
		if now := p.c.Now(); now.Sub(p.warned[server.Addr]) >= warnEvery {
			level, p.warned[server.Addr] = slog.LevelWarn, now
		}
		p.c.Log.Log(ctx, level, "no channel to the domain controller", "dc", server.Name, "error", err, "remedy", fault.Remedy(err))
	}
	if _, decided := StatusOf(err); !decided && !hurry {
		p.fellSilent()
	}
	return nil, err
}
