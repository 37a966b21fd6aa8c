// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Secret is what a principal proves itself with: Password or *Keytab.
type Secret interface {
	// keyFor returns a key of who, with memory of its own, for the best of the
	// derivations that the KDC offers.
	keyFor(who Principal, offers []KeyInfo) (Key, KeyInfo, error)
	clone() Secret
	wipe()
}

// Password is a password as a Secret, UTF-8. It shares the memory of p.
func Password(p secret.Bytes) Secret { return password{p} }

type password struct{ b secret.Bytes }

func (p password) keyFor(who Principal, offers []KeyInfo) (Key, KeyInfo, error) {
	if len(offers) == 0 {
		return Key{}, KeyInfo{}, fault.Errorf(fault.BadCredential, "the KDC offers no AES key for %s", who)
	}
	key, err := DeriveKey(p.b, offers[0])
	return key, offers[0], err
}

func (p password) clone() Secret { return password{p.b.Clone()} }
func (p password) wipe()         { p.b.Wipe() }

// Session is a principal that stays signed in: it keeps a TGT and service
// tickets, and gets new ones when they near their end. Safe for concurrent
// use; one call at a time asks the KDC.
type Session struct {
	client *Client
	who    Principal

	busy    chan struct{} // held by the one that asks the KDC; waiting honours ctx
	mu      sync.Mutex
	with    []Secret // the first that is taken; see NewSession
	tgt     *Ticket
	tickets map[string]*Ticket
}

// early is how long before its end a cached ticket is no longer handed out.
const early = 5 * time.Minute

// NewSession returns a session of who; it asks nothing yet. others are tried, in
// their order, where a KDC does not take the secret: around a rotation one KDC
// may have the new password while another has the old. The session keeps copies
// of the secrets until Close, or until SetSecret gives it others.
func NewSession(client *Client, who Principal, with Secret, others ...Secret) *Session {
	return &Session{client: client, who: who, busy: make(chan struct{}, 1), with: clones(with, others), tickets: map[string]*Ticket{}}
}

func clones(with Secret, others []Secret) []Secret {
	all := []Secret{with.clone()}
	for _, o := range others {
		all = append(all, o.clone())
	}
	return all
}

func wipeAll(all []Secret) {
	for _, s := range all {
		s.wipe()
	}
}

// Principal returns who the session is.
func (s *Session) Principal() Principal { return s.who }

// Ticket returns a ticket to a service of the realm, as ("ldap",
// "dc1.example.com"), valid for at least five more minutes where the KDC gives
// that much. The ticket is the caller's own, to wipe after use. Errors as of
// Client.Login and Client.ServiceTicket.
func (s *Session) Ticket(ctx context.Context, class, host string) (*Ticket, error) {
	service := Service(class, host, s.client.realm())
	name := strings.ToLower(service.String())
	if t := s.cached(name); t != nil {
		return t, nil
	}
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unreachable, "get a ticket for "+service.String(), ctx.Err())
	}
	if t := s.cached(name); t != nil {
		return t, nil
	}
	fresh := false
	for {
		tgt, isNew, err := s.ticketGranting(ctx)
		if err != nil {
			return nil, err
		}
		t, err := s.client.ServiceTicket(ctx, tgt, service)
		tgt.Wipe()
		// The KDC may have changed its key, or revoked the TGT: one new sign-in.
		if err != nil && !isNew && !fresh && (fault.Is(err, fault.Expired) || fault.Is(err, fault.BadCredential)) {
			s.Drop()
			fresh = true
			continue
		}
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if old := s.tickets[name]; old != nil {
			old.Wipe()
		}
		s.tickets[name] = t
		return t.Clone(), nil
	}
}

// usable reports whether a ticket is worth handing out.
func (s *Session) usable(t *Ticket) bool {
	return t != nil && t.EndTime.Sub(s.client.now()) > early
}

func (s *Session) cached(name string) *Ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tickets[name]; s.usable(t) {
		return t.Clone()
	}
	return nil
}

// ticketGranting returns a copy of the TGT, signing in when there is none that
// lasts. The caller holds busy.
func (s *Session) ticketGranting(ctx context.Context) (tgt *Ticket, isNew bool, err error) {
	s.mu.Lock()
	if s.usable(s.tgt) {
		defer s.mu.Unlock()
		return s.tgt.Clone(), false, nil
	}
	var with []Secret
	if len(s.with) > 0 {
		with = clones(s.with[0], s.with[1:])
	}
	s.mu.Unlock()
	if len(with) == 0 {
		return nil, false, fault.New(fault.Internal, "the session is closed")
	}
	defer wipeAll(with)
	l, err := s.client.Login(ctx, s.who, with[0])
	for _, other := range with[1:] {
		if !fault.Is(err, fault.BadCredential) {
			break
		}
		// The first refusal is the one to tell: the others were long shots.
		if again, err2 := s.client.Login(ctx, s.who, other); err2 == nil {
			l, err = again, nil
		}
	}
	if err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tgt.Wipe()
	s.tgt = l.TGT
	return l.TGT.Clone(), true, nil
}

// SetSecret changes the secret, after a rotation; others as in NewSession.
// Tickets got with the old one stay good until their end. A session that is
// closed stays so.
func (s *Session) SetSecret(with Secret, others ...Secret) {
	c := clones(with, others)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.with == nil {
		wipeAll(c)
		return
	}
	wipeAll(s.with)
	s.with = c
}

// Drop forgets every ticket, as after a server refused one.
func (s *Session) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tgt.Wipe()
	s.tgt = nil
	for _, t := range s.tickets {
		t.Wipe()
	}
	clear(s.tickets)
}

// Close wipes the secret and every ticket. The session is of no use after it.
func (s *Session) Close() {
	s.Drop()
	s.mu.Lock()
	defer s.mu.Unlock()
	wipeAll(s.with)
	s.with = nil
}
