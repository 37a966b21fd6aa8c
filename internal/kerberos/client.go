// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"

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
	// RoundTrip is told how long the KDC whose answer was taken needed for it; nil:
	// nobody is.
	RoundTrip func(time.Duration)
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

func (c *Client) realm() string { return strings.ToUpper(c.cfg.Realm) }

func (c *Client) now() time.Time {
	if c.cfg.Now != nil {
		return c.cfg.Now()
	}
	return time.Now()
}

func sameRealm(a, b string) bool { return strings.EqualFold(a, b) }

// Login is the outcome of a successful AS exchange.
type Login struct {
	TGT *Ticket
	// Keys says how the KDC derives the principal's two AES keys, best first;
	// authoritative for a keytab. Empty when the KDC did not tell.
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
// A wrong password costs one bad-password count at one DC (a second one only
// when a DC went silent for two seconds after it got the proof). Errors:
// fault.BadCredential, NotFound, Locked, Disabled, Expired, MustChange, Denied,
// with *Error under them; Unreachable when no KDC answered before ctx ended,
// or (with *SkewError) when the clocks differ too much.
//
// A TGT proves nothing about who answered: whoever lets somebody in because of
// it must call Verify first.
func (c *Client) Login(ctx context.Context, who Principal, with Secret) (*Login, error) {
	return c.login(ctx, who, with, Principal{Type: NTService, Name: []string{"krbtgt", c.realm()}, Realm: c.realm()})
}

// KeyInfo asks the KDC, without any credential, how it derives the keys of
// who. fault.NotFound when the account is unknown; nil when the account needs
// no pre-authentication and so is not told.
func (c *Client) KeyInfo(ctx context.Context, who Principal) ([]KeyInfo, error) {
	const op = "ask the domain for the salt of an account"
	kerr, err := c.provoke(ctx, who)
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.Unknown, op, err)
	case kerr == nil:
		return nil, nil
	case kerr.Code != CodePreauthRequired:
		return nil, c.fail(op, &kerr.Error)
	}
	return bothTypes(keyInfos(methodData(kerr.data))), nil
}

// Time asks a KDC for its clock, without any credential (the time that every
// KRB-ERROR carries). skew is how far our clock runs ahead of it, good to half
// of the round trip.
func (c *Client) Time(ctx context.Context) (server time.Time, skew time.Duration, err error) {
	const op = "ask the domain controller for the time"
	start := c.now()
	kerr, err := c.provoke(ctx, Principal{Type: NTPrincipal, Name: []string{"krbtgt"}, Realm: c.realm()})
	if err != nil {
		return time.Time{}, 0, fault.Wrap(fault.Unknown, op, err)
	}
	if kerr == nil || kerr.Time.IsZero() {
		return time.Time{}, 0, fault.New(fault.Unreachable, op+": no time in the answer")
	}
	end := c.now()
	return kerr.Time, start.Add(end.Sub(start) / 2).Sub(kerr.Time), nil
}

// provoke sends an AS-REQ without proof and returns the refusal; nil when the
// KDC gave a ticket.
func (c *Client) provoke(ctx context.Context, who Principal) (*refusal, error) {
	tgs := Principal{Type: NTService, Name: []string{"krbtgt", c.realm()}, Realm: c.realm()}
	body, err := c.requestBody(who.name(), tgs, optCanonicalize)
	if err != nil {
		return nil, err
	}
	reply, from, err := c.request(ctx, c.ask, asRequest(body, nil))
	if err != nil || appTag(reply) != tagKRBError {
		return nil, err
	}
	return readRefusal(reply, from)
}

// request asks one KDC after the other until one answers that can; send is ask,
// or prove for what counts. A KDC that says that it cannot, or whose clock is off,
// has the last word only where every other says so too.
func (c *Client) request(ctx context.Context, send func(context.Context, []netip.Addr, func(netip.Addr) ([]byte, error)) (answer, error), build func(netip.Addr) ([]byte, error)) ([]byte, netip.Addr, error) {
	addrs, err := c.cfg.Servers.Addrs(ctx)
	if err != nil {
		return nil, netip.Addr{}, err
	}
	var last answer
	for len(addrs) > 0 {
		a, err := send(ctx, addrs, build)
		if err != nil {
			if last.reply != nil {
				break
			}
			return nil, netip.Addr{}, err
		}
		last = a
		r, err := readRefusal(a.reply, a.from)
		if err != nil { // a ticket
			break
		}
		switch r.Code {
		case codeUnavailable, CodeSkew:
			c.cfg.Servers.Bad(a.from)
		case CodeGeneric: // may be about the account alone
		default:
			return a.reply, a.from, nil
		}
		addrs = without(addrs, a.from)
	}
	return last.reply, last.from, nil
}

// refusal is an Error with the e-data that explains it.
type refusal struct {
	Error
	data []byte
}

// readRefusal decodes a KRB-ERROR.
func readRefusal(reply []byte, from netip.Addr) (*refusal, error) {
	var m messages.KRBError
	if err := unmarshalApp(reply, &m, tagKRBError); err != nil {
		return nil, fault.Wrap(fault.Unreachable, "read the KDC's refusal", err)
	}
	r := &refusal{data: m.EData}
	r.Error = Error{Code: Code(m.ErrorCode), Status: statusOf(m.EData), Text: m.EText, KDC: from,
		Time: m.STime.Add(time.Duration(m.Susec%1e6) * time.Microsecond)}
	return r, nil
}

// fail classifies a refusal.
func (c *Client) fail(op string, e *Error) error {
	if e.Code == CodeSkew {
		return &fault.Error{Kind: fault.Unreachable, Op: op, Err: &SkewError{Local: c.now(), Server: e.Time, KDC: e.KDC},
			Remedy: "set the clock, or let it be set by NTP from the domain controllers"}
	}
	kind, remedy := e.kind()
	return &fault.Error{Kind: kind, Op: op, Err: e, Remedy: remedy}
}
