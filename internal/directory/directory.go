// SPDX-License-Identifier: Apache-2.0

// Package directory reads, and at a join writes, the LDAP directory of an
// Active Directory domain, and finds the domain controllers that serve it.
//
// A Locator finds and remembers DCs (DNS SRV through a resolver of its own,
// CLDAP ping, or addresses given by the administrator). A Client keeps one
// connection to one of them, on TCP 389 with a Kerberos bind, and every byte
// after the bind signed and sealed. Objects come out as typed values; whatever
// bytes the directory holds, a bad attribute marks its object and never stops
// a pass.
//
// The package never binds in clear or without confidentiality, never follows a
// referral, never reads /etc/resolv.conf when name servers were given, keeps
// nothing on disk, and decides nothing about the people it reads.
package directory

import (
	"context"
	"sync/atomic"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// Credential is who the client binds as; *kerberos.Session is one.
type Credential interface {
	// Ticket returns a service ticket, as for ("ldap", "dc1.example.com"), of
	// the caller's own to wipe.
	Ticket(ctx context.Context, class, host string) (*kerberos.Ticket, error)
	// Drop forgets cached tickets, after a server refused one.
	Drop()
}

// Config says where a Client connects. Locator and Credential are required.
type Config struct {
	Locator    *Locator
	Credential Credential
	PageSize   int // entries per page of a search; 0 means 1000
	// AnyServer accepts an LDAP server that the KDC does not mark as trusted for
	// delegation, as all writable DCs are. Without it a machine that any user
	// joined could play DC towards us.
	AnyServer bool
	// SSHKeys is the attribute of users that holds public SSH keys; empty: none
	// is read.
	SSHKeys string
	// Dial replaces the net.Dialer, for tests.
	Dial Dialer
}

// Client keeps one sealed connection to a DC of the domain, made at the first
// need and made anew, with another DC if need be, after it broke. Safe for
// concurrent use.
type Client struct {
	cfg     Config
	dialing chan struct{} // guards conn; held by the one that connects, waiting honours ctx
	conn    *Conn
	sparing chan struct{} // held by the one that connects for Another
	spare   atomic.Pointer[Conn]
}

// NewClient returns a client; it connects at the first need.
func NewClient(cfg Config) *Client {
	return &Client{cfg: cfg, dialing: make(chan struct{}, 1), sparing: make(chan struct{}, 1)}
}

// Conn returns the live connection, or makes one. Whoever needs several
// answers from one and the same DC (a pass pinned to an invocationId) uses the
// Conn; everybody else Do. Errors: fault.Unreachable, and those of
// Credential.Ticket.
func (c *Client) Conn(ctx context.Context) (*Conn, error) {
	conn, _, err := c.get(ctx)
	return conn, err
}

func (c *Client) get(ctx context.Context) (conn *Conn, fresh bool, err error) {
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, false, fault.Wrap(fault.Unreachable, "wait for the directory", ctx.Err())
	}
	if c.conn.Alive() {
		return c.conn, false, nil
	}
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
	if c.conn = c.takeSpare(); c.conn != nil {
		return c.conn, false, nil
	}
	conn, err = c.connect(ctx, nil)
	if err != nil {
		return nil, false, fault.Wrap(fault.Unknown, "connect to the directory", err)
	}
	c.conn = conn
	return conn, true, nil
}

// Do calls fn with the live connection. When fn fails with fault.Unreachable on
// a connection that was not fresh and is dead now (the DC restarted since), fn
// is called once more on a new one: give it only what may be done twice.
func (c *Client) Do(ctx context.Context, fn func(*Conn) error) error {
	conn, fresh, err := c.get(ctx)
	if err != nil {
		return err
	}
	if err = fn(conn); err == nil || fresh || conn.Alive() || !fault.Is(err, fault.Unreachable) || ctx.Err() != nil {
		return err
	}
	if conn, _, err = c.get(ctx); err != nil {
		return err
	}
	return fn(conn)
}

// DC returns the DC of the live connection; false when there is none, or one
// is just being made.
func (c *Client) DC() (DC, bool) {
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	default:
		return DC{}, false
	}
	if !c.conn.Alive() {
		return DC{}, false
	}
	return c.conn.dc, true
}

// Close closes the connection. A later call opens a new one.
func (c *Client) Close() error {
	c.dialing <- struct{}{}
	defer func() { <-c.dialing }()
	if s := c.takeSpare(); s != nil {
		_ = s.Close()
	}
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	return err
}
