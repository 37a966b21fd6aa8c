// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// Conn is one sealed connection to one DC. Safe for concurrent use: operations
// run side by side. An operation whose context ends closes the connection (the
// DC is not trusted to be alive), and every other operation on it fails with
// fault.Unreachable.
type Conn struct {
	dc       DC
	wire     *wire
	ldap     *ldap.Conn
	pageSize int
	sshKeys  string // attribute; see Config
	bad      func() // tells the locator that the DC went away

	mu    sync.Mutex
	facts *facts // read once
}

const (
	// unacked is how long data may stay unacknowledged by a DC before the
	// kernel gives the connection up: a DC that is slow acknowledges, one that
	// is gone does not.
	unacked = 4 * time.Second
	// idle, probe and probes find out within half a minute that the other end
	// of a silent connection is gone.
	idle, probe, probes = 15 * time.Second, 5 * time.Second, 3
)

// connectTime is how long one DC may take over a bind, and all of them over taking a
// connection: what says nothing must not hold up everybody behind a caller without a
// deadline.
var connectTime = 15 * time.Second

// connect opens a sealed connection to the best DC that answers; that of than,
// which may be nil, is asked last.
func (c *Client) connect(ctx context.Context, than *Conn) (*Conn, error) {
	dcs, err := c.cfg.Locator.Candidates(ctx)
	if err != nil {
		return nil, err
	}
	dcs = last(dcs, than)
	var failures []error
	for len(dcs) > 0 && ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, connectTime)
		r, err := race(within, dcs, hedge, c.dial, func(d dialled) { _ = d.raw.Close() })
		cancel()
		if err != nil {
			for _, d := range dcs {
				c.cfg.Locator.Bad(d.Addr)
			}
			failures = append(failures, err)
			break
		}
		// Those asked before it failed, or had their time and said nothing.
		for _, d := range dcs[:slices.Index(dcs, r.dc)] {
			c.cfg.Locator.Bad(d.Addr)
		}
		within, cancel = context.WithTimeout(ctx, connectTime)
		conn, err := c.bind(within, r.dc, r.raw)
		cancel()
		if err == nil {
			c.cfg.Locator.Good(r.dc.Addr)
			return conn, nil
		}
		_ = r.raw.Close()
		// Our own credential is no better at another DC. A name that the KDC
		// does not know, or an impostor, must not keep us from the real ones.
		var own *credentialError
		if errors.As(err, &own) && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		c.cfg.Locator.Bad(r.dc.Addr)
		failures = append(failures, err)
		dcs = slices.DeleteFunc(slices.Clone(dcs), func(d DC) bool { return d.Addr == r.dc.Addr })
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.Wrap(fault.Unreachable, "", errors.Join(append(failures, err)...))
	}
	// A refusal says more than a silence.
	for _, err := range failures {
		if !fault.Is(err, fault.Unreachable) {
			return nil, err
		}
	}
	return nil, fault.Wrap(fault.Unreachable, "", errors.Join(failures...))
}

// credentialError is a failure to get a ticket, before the DC was asked
// anything.
type credentialError struct{ error }

func (e *credentialError) Unwrap() error { return e.error }

type dialled struct {
	dc  DC
	raw net.Conn
}

func (c *Client) dial(ctx context.Context, d DC) (dialled, error) {
	dial := c.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: idle, Interval: probe, Count: probes}, Control: control}).DialContext
	}
	raw, err := dial(ctx, "tcp", netip.AddrPortFrom(d.Addr, 389).String())
	if err != nil {
		return dialled{}, fault.Wrap(fault.Unreachable, "reach "+d.Host, err)
	}
	return dialled{d, raw}, nil
}

// control sets TCP_USER_TIMEOUT; a kernel without it does without.
func control(_, _ string, rc syscall.RawConn) error {
	return rc.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacked.Milliseconds()))
	})
}

// bind proves us to the DC and it to us, and seals the connection. A DC that
// does not offer confidentiality is refused: fault.Denied.
func (c *Client) bind(ctx context.Context, dc DC, raw net.Conn) (*Conn, error) {
	op := "bind to " + dc.Host
	for try := 0; ; try++ {
		ticket, err := c.cfg.Credential.Ticket(ctx, "ldap", dc.Host)
		if err != nil {
			return nil, fault.Wrap(fault.Unknown, op, &credentialError{err})
		}
		// The name came from DNS or a ping, for which nobody vouches, and any
		// user may join a machine and call it so. What the KDC says under its
		// seal is true: only accounts trusted for delegation get this flag, and
		// making one takes a domain administrator.
		if ticket.Flags&kerberos.FlagDelegateOK == 0 && !c.cfg.AnyServer {
			ticket.Wipe()
			_ = raw.Close()
			return nil, fault.WithRemedy(fault.Errorf(fault.Denied, "%s: the KDC does not say that it is a domain controller", op),
				"somebody may be playing domain controller: check DNS; a read-only domain controller cannot be used")
		}
		w := &wire{Conn: raw}
		conn := &Conn{dc: dc, wire: w, ldap: ldap.NewConn(w, false), pageSize: c.cfg.PageSize, sshKeys: c.cfg.SSHKeys, bad: func() { c.cfg.Locator.Bad(dc.Addr) }}
		if conn.pageSize <= 0 {
			conn.pageSize = 1000
		}
		conn.ldap.Start()
		sasl := &handshake{ticket: ticket}
		err = conn.do(ctx, op, func() error {
			if err := conn.ldap.GSSAPIBind(sasl, "", ""); err != nil {
				return err
			}
			return w.seal(sasl)
		})
		ticket.Wipe()
		if err == nil {
			return conn, nil
		}
		_ = conn.Close()
		// A ticket from the time before the DC was rebuilt: once more with a new
		// one, over a new connection.
		if try > 0 || !fault.Is(err, fault.BadCredential) {
			return nil, err
		}
		c.cfg.Credential.Drop()
		d, derr := c.dial(ctx, dc)
		if derr != nil {
			return nil, derr
		}
		raw = d.raw
	}
}

// DC returns the DC at the other end.
func (c *Conn) DC() DC { return c.dc }

// Alive reports whether the connection was still usable a moment ago.
func (c *Conn) Alive() bool { return c != nil && !c.ldap.IsClosing() }

// Close closes the connection. Operations under way fail with
// fault.Unreachable.
func (c *Conn) Close() error {
	// The library's Close waits for its writer; the socket goes first, so that
	// a writer stuck on a dead DC lets go.
	err := c.wire.Close()
	_ = c.ldap.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// do runs one operation of the library under ctx, which it does not know
// itself, and classifies what comes back. A panic of the library on hostile
// bytes closes the connection.
func (c *Conn) do(ctx context.Context, op string, f func() error) (err error) {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unreachable, op, err)
	}
	defer func() {
		if recover() != nil {
			_ = c.Close()
			err = fault.New(fault.Malformed, op+": the answer broke its decoder")
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	err = f()
	if !stop() && err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.bad()
		}
		return fault.Wrap(fault.Unreachable, op, ctx.Err())
	}
	if err = classify(op, err); !fault.Is(err, fault.Unreachable) {
		return err
	}
	// The library does not close after a failed write, and a DC that says
	// "unavailable" is shutting down.
	var refused *LDAPError
	if !errors.As(err, &refused) || refused.Code == ldap.LDAPResultUnavailable {
		_ = c.Close()
		c.bad()
		if werr := c.wire.broken(); werr != nil {
			err = fault.Wrap(fault.Unreachable, op, werr)
		}
	}
	return err
}
