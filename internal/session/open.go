// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// opening is a session about to be made.
type opening struct {
	who               Who
	how, audit, shown string
	app, parent       string
	provider, issuer  string
	state             string // of the answer that is used up by it
	code              *hash  // that is used up by it
	from              From
	absolute          time.Time // not later than this; zero: as the settings say
}

// Open makes a session for somebody whom package login let in, or who is an
// account of this machine and gave its password. A session that came along in
// from.Old ends: the id is always a new one. auditID names the event.
func (s *Sessions) Open(ctx context.Context, who Who, how, auditID, shown string, from From) (*Finished, error) {
	done, err := s.open(ctx, opening{who: who, how: how, audit: auditID, shown: shown, from: from})
	if err == nil {
		done.Location = "/"
	}
	return done, err
}

func (s *Sessions) open(ctx context.Context, o opening) (*Finished, error) {
	if (o.who.Row == 0) == (o.who.Local == nil) {
		return nil, fault.New(fault.Internal, "a session is a row's or a local account's")
	}
	now, set := s.c.Now(), s.settings()
	ends := now.Add(set.Absolute)
	if !o.absolute.IsZero() && o.absolute.Before(ends) {
		ends = o.absolute
	}
	token := random(tokenBytes)
	l := newLive(hashOf(token), record{ID: newID(), Who: o.who, App: o.app, How: o.how, Created: now, Used: now, Ends: ends,
		Remote: clip(o.from.RemoteHost), Agent: clip(o.from.Agent), Audit: o.audit, Shown: clip(o.shown), From: o.parent, Provider: clip(o.provider), Issuer: o.issuer})
	notes := map[string][]byte{l.key.note(keySession): l.r.encode()}
	if o.state != "" {
		notes[hashOf(o.state).note(keySpent)] = timeNote(now.Add(signInTime))
	}
	if o.code != nil {
		notes[o.code.note(keyCode)] = nil
	}
	var gone []*live
	if old, err := s.find(o.from.Old); err == nil {
		gone = append(gone, old)
	}
	gone = append(gone, s.crowd(o.who.key())...)
	s.mu.RLock()
	full := len(s.byKey)-len(gone) >= maxSessions
	s.mu.RUnlock()
	if full {
		return nil, reason(Away, fault.Errorf(fault.Exhausted, "there are %d sessions already", maxSessions))
	}
	for _, old := range gone {
		notes[old.key.note(keySession)] = nil
	}
	s.writing.Lock()
	err := s.c.Store.SetNotes(ctx, topic, notes)
	if err == nil { // a failed write brings nobody back whom a revoke has ended meanwhile
		for _, old := range gone {
			old.over.Store(true)
		}
	}
	s.writing.Unlock()
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "write the session down", err)
	}
	s.mu.Lock()
	s.remove(gone)
	s.add(l)
	s.mu.Unlock()
	return &Finished{Token: token, Session: l.session(set.Idle)}, nil
}

func timeNote(t time.Time) []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // a time of this century
	}
	return b
}

// clip bounds what a stranger can have us keep, and keeps it printable.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s), "")
	if len(s) > 256 {
		s = strings.ToValidUTF8(s[:256], "")
	}
	return s
}
