// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Secret is what a principal proves itself with: Password or *Keytab.
type Secret interface {
	// keys returns the usable keys of who, best first, for the derivations
	// that the KDC offers.
	keyFor(who Principal, offers []KeyInfo) (Key, KeyInfo, error)
	clone() Secret
	wipe()
}

// Password is a password as a Secret, UTF-8.
func Password(p secret.Bytes) Secret { return password{p} }

type password struct{ b secret.Bytes }

// Session is a principal that stays signed in: it keeps a TGT and service
// tickets, and gets new ones when they near their end. Safe for concurrent
// use.
type Session struct {
	client *Client
	who    Principal

	mu      sync.Mutex
	with    Secret
	tgt     *Ticket
	tickets map[string]*Ticket
}

// early is how long before its end a cached ticket is no longer handed out.
const early = 5 * time.Minute

// NewSession returns a session of who; it asks nothing yet. The session keeps
// a copy of the secret until Close, or until SetSecret gives it another.
func NewSession(client *Client, who Principal, with Secret) *Session {
	return &Session{client: client, who: who, with: with.clone(), tickets: map[string]*Ticket{}}
}

// Principal returns who the session is.
func (s *Session) Principal() Principal { return s.who }

// Ticket returns a ticket to a service of the realm, as ("ldap",
// "dc1.example.com"), valid for at least five more minutes. The caller must not
// wipe it. Errors as of Client.Login and Client.ServiceTicket.
func (s *Session) Ticket(ctx context.Context, class, host string) (*Ticket, error) {
	return nil, errUnbuilt
}

// SetSecret changes the secret after a rotation and drops every ticket.
func (s *Session) SetSecret(with Secret) {
}

// Drop forgets every ticket, as after a server refused one.
func (s *Session) Drop() {
}

// Close wipes the secret and every ticket. The session is of no use after it.
func (s *Session) Close() {
}

func (p password) keyFor(Principal, []KeyInfo) (Key, KeyInfo, error) {
	return Key{}, KeyInfo{}, errUnbuilt
}
func (p password) clone() Secret { return password{p.b.Clone()} }
func (p password) wipe()         { p.b.Wipe() }

func (k *Keytab) keyFor(Principal, []KeyInfo) (Key, KeyInfo, error) {
	return Key{}, KeyInfo{}, errUnbuilt
}
func (k *Keytab) clone() Secret { return k.Clone() }
func (k *Keytab) wipe()         { k.Wipe() }
