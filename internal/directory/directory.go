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
	"net"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// Credential is who the client binds as; *kerberos.Session is one.
type Credential interface {
	// Ticket returns a service ticket, as for ("ldap", "dc1.example.com").
	Ticket(ctx context.Context, class, host string) (*kerberos.Ticket, error)
	// Drop forgets cached tickets, after a server refused one.
	Drop()
}

// Config says where a Client connects. Locator and Credential are required.
type Config struct {
	Locator    *Locator
	Credential Credential
	PageSize   int // entries per page of a search; 0 means 1000
	// Dial replaces the net.Dialer, for tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client keeps one sealed connection to a DC of the domain, made at the first
// need and made anew, with another DC if need be, after it broke. Safe for
// concurrent use.
type Client struct {
	cfg Config
}

// NewClient returns a client; it connects at the first need.
func NewClient(cfg Config) *Client { return &Client{cfg: cfg} }

// Conn returns the live connection, or makes one. Whoever needs several
// answers from one and the same DC (a pass pinned to an invocationId) uses the
// Conn; everybody else the methods of Client. Errors: fault.Unreachable, and
// those of Credential.Ticket.
func (c *Client) Conn(ctx context.Context) (*Conn, error) { return nil, errUnbuilt }

// Do calls fn with the live connection. When fn fails with fault.Unreachable on
// a connection that was not fresh and is dead now (the DC restarted since), fn
// is called once more on a new one: give it only what may be done twice.
func (c *Client) Do(ctx context.Context, fn func(*Conn) error) error { return errUnbuilt }

// DC returns the DC of the live connection; false when there is none.
func (c *Client) DC() (DC, bool) { return DC{}, false }

// Close closes the connection. A later call opens a new one.
func (c *Client) Close() error { return nil }

var errUnbuilt = fault.New(fault.Internal, "not built yet")
