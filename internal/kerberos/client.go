// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"net"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Config says where a Client asks. Realm and Servers are required.
type Config struct {
	Realm   string  // any case; sent in upper case
	Servers Servers // shared with the LDAP side where both talk to one domain

	// Lifetime is asked for tickets; 0 means 10 hours. The KDC may give less.
	Lifetime time.Duration
	// RenewFor is the renewable life asked for; 0 means 7 days.
	RenewFor time.Duration
	// Dial replaces the net.Dialer, for tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now replaces time.Now, for tests.
	Now func() time.Time
}

// Client asks the KDCs of one realm. Safe for concurrent use; it keeps no
// state but what Servers remembers.
type Client struct {
	cfg Config
}

// NewClient returns a client; it asks nothing yet.
func NewClient(cfg Config) *Client { return &Client{cfg} }

// Login is the outcome of a successful AS exchange.
type Login struct {
	TGT *Ticket
	// Keys says how the KDC derives the principal's AES keys, best first;
	// authoritative for a keytab.
	Keys []KeyInfo
	// KVNO is the version of the long-term key that the KDC answered with;
	// 0 when it did not say.
	KVNO uint32
	// PasswordExpires is when the KDC will refuse the password; zero: never,
	// or not said.
	PasswordExpires time.Time
}

// Login proves who to the KDC with its password or keytab, and returns a TGT.
//
// A wrong password costs exactly one bad-password count at one DC. Errors:
// fault.BadCredential, NotFound, Locked, Disabled, Expired, MustChange, Denied,
// with *Error under them; Unreachable when no KDC answered before ctx ended,
// or (with *SkewError) when the clocks differ too much.
//
// A TGT proves nothing about who answered: whoever lets somebody in because of
// it must call Verify first.
func (c *Client) Login(ctx context.Context, who Principal, with Secret) (*Login, error) {
	return nil, errUnbuilt
}

// KeyInfo asks the KDC, without any credential, how it derives the keys of
// who. fault.NotFound when the account is unknown.
func (c *Client) KeyInfo(ctx context.Context, who Principal) ([]KeyInfo, error) {
	return nil, errUnbuilt
}

// ServiceTicket asks for a ticket to service, in the realm of the client.
// fault.NotFound when no account carries that SPN.
func (c *Client) ServiceTicket(ctx context.Context, tgt *Ticket, service Principal) (*Ticket, error) {
	return nil, errUnbuilt
}

// Renew asks for a TGT with a new end time in exchange for a renewable one.
func (c *Client) Renew(ctx context.Context, tgt *Ticket) (*Ticket, error) {
	return nil, errUnbuilt
}

// Time asks the KDC at addr for its clock, without any credential (the time
// that every KRB-ERROR carries). skew is how far our clock runs ahead; its
// error is half of the round trip.
func (c *Client) Time(ctx context.Context) (server time.Time, skew time.Duration, err error) {
	return time.Time{}, 0, errUnbuilt
}

var errUnbuilt = fault.New(fault.Internal, "not built yet")
