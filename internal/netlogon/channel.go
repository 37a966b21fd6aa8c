// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/netip"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// What both sides must be able to do (MS-NRPC 3.1.4.2): strong keys, AES with
// SHA-2, and the secure channel for RPC. Without all three there is no channel:
// what is weaker is a downgrade. The others are what members of a domain offer.
const (
	needStrongKey = 0x00004000
	needAES       = 0x01000000
	needSecureRPC = 0x40000000
	needed        = needStrongKey | needAES | needSecureRPC

	offered = 0x612fffff
)

// channel is one sealed connection over which both sides have proved that they
// know the machine's password. One call at a time.
type channel struct {
	conn       *conn
	server     Server
	computer   string
	generation uint64
}

// open makes a channel to one domain controller: where is Netlogon, who are we
// both, and then a second connection under the key that came of it, as Windows
// does it. A DC remembers one handshake of a machine; the caller sees to it that
// no second one begins before this one's end. at is where Netlogon was the last
// time, or zero; where it is now is returned.
func open(ctx context.Context, d Dialer, server Server, at netip.AddrPort, account *Account) (ch *channel, now netip.AddrPort, err error) {
	if at.IsValid() {
		ch, err = openAt(ctx, d, server, at, account)
		if _, decided := StatusOf(err); err == nil || decided || ctx.Err() != nil {
			return ch, at, err
		}
		// It may be elsewhere now; and where it was, something else.
	}
	if at, err = place(ctx, d, server.Addr); err != nil {
		return nil, netip.AddrPort{}, silent(server, err)
	}
	ch, err = openAt(ctx, d, server, at, account)
	return ch, at, err
}

func openAt(ctx context.Context, d Dialer, server Server, at netip.AddrPort, account *Account) (*channel, error) {
	key, err := handshake(ctx, d, at.String(), server, account)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(key[:])
	c, err := dial(ctx, d, at.String())
	if err != nil {
		return nil, silent(server, err)
	}
	if err := c.bind(ctx, netlogonInterface, newSealer(key), negotiateToken(account.Domain, account.computer())); err != nil {
		c.close()
		return nil, silent(server, err)
	}
	return &channel{conn: c, server: server, computer: account.computer()}, nil
}

// handshake proves the machine to the domain controller and the domain
// controller to the machine, with each of the account's passwords in turn.
func handshake(ctx context.Context, d Dialer, address string, server Server, account *Account) (key [16]byte, err error) {
	c, err := dial(ctx, d, address)
	if err != nil {
		return key, silent(server, err)
	}
	defer c.close()
	if err := c.bind(ctx, netlogonInterface, nil, nil); err != nil {
		return key, silent(server, err)
	}
	err = fault.New(fault.Internal, "the machine's account has no password")
	for _, password := range account.Passwords {
		if password.Len() == 0 {
			continue
		}
		if key, err = prove(ctx, c, server, account, password); err == nil {
			return key, nil
		}
		if code, ok := StatusOf(err); !ok || code != StatusAccessDenied {
			break
		}
	}
	return key, err
}

// prove is one attempt with one password.
func prove(ctx context.Context, c *conn, server Server, account *Account, password secret.Bytes) (key [16]byte, err error) {
	name := handle(server)
	mine := newChallenge()
	theirs, err := requestChallenge(ctx, c, name, account.computer(), mine)
	if err != nil {
		return key, silent(server, err)
	}
	hash := ntHash(password)
	key = newSessionKey(hash, mine, theirs)
	secret.Wipe(hash[:])
	proof, flags, err := authenticate(ctx, c, name, account.Name, account.computer(), newCredential(key, mine), offered)
	if err == nil {
		want := newCredential(key, theirs)
		switch {
		case flags&needed != needed:
			err = refusal(StatusDowngradeDetected, "the domain controller offers no AES for the secure channel",
				"latchkey speaks to domain controllers of Windows Server 2008 R2 and later, and Samba 4.6 and later; anything less is refused")
		case subtle.ConstantTimeCompare(want[:], proof[:]) != 1:
			err = refusal(StatusAccessDenied, "the one that answered does not know this machine's password: it is no domain controller of the domain", "")
		}
	} else {
		err = explainTrust(silent(server, err), account)
	}
	if err != nil {
		secret.Wipe(key[:])
		return key, err
	}
	return key, nil
}

// explainTrust says what can be done where the domain does not know the machine.
func explainTrust(err error, account *Account) error {
	code, _ := StatusOf(err)
	switch code {
	case StatusAccessDenied:
		return refusal(code, "the domain controller does not accept the password of the account "+account.Name,
			"`latchkey machine rotate` sets a new one where Kerberos still works; else join again: `latchkey join DOMAIN --user NAME`")
	case StatusNoTrustSAMAccount, StatusNoTrustLSASecret:
		return refusal(code, "the domain has no account "+account.Name, "it was deleted or disabled; join again: `latchkey join DOMAIN --user NAME`")
	}
	return err
}

// handle names a server as RPC calls do (MS-NRPC 3.5.4.1).
func handle(s Server) string {
	name := s.Name
	if name == "" {
		name = s.Addr.String()
	}
	return `\\` + strings.TrimSuffix(name, ".")
}

// silent gives an error of the transport its kind; a status keeps its own.
func silent(server Server, err error) error {
	if _, ok := StatusOf(err); ok || err == nil {
		return err
	}
	name := server.Name
	if name == "" {
		name = server.Addr.String()
	}
	return fault.Wrap(fault.Unreachable, "ask the domain controller "+name, err)
}

// logon asks one question over the channel.
func (ch *channel) logon(ctx context.Context, l Logon) (*Validation, error) {
	v, authoritative, err := samLogonEx(ctx, ch.conn, handle(ch.server), ch.computer, l)
	if err == nil {
		return v, nil
	}
	var s *Status
	if errors.As(err, &s) {
		s.Foreign = !authoritative
		if s.Code == StatusAccessDenied {
			// It is the channel that is refused, before the question is looked at.
			err = &unread{err}
		}
	}
	return nil, silent(ch.server, err)
}
