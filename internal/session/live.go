// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

type position = store.Position

// whoKey is by whom sessions are listed.
type whoKey struct {
	row   identity.RowID
	local string
}

func (w Who) key() whoKey {
	if w.Local != nil {
		return whoKey{local: w.Local.Name}
	}
	return whoKey{row: w.Row}
}

// live is a session in memory.
type live struct {
	key  hash
	r    record // never changed; Used is as it was read
	used atomic.Int64
	kept atomic.Int64 // the time of last use that the store has
	over atomic.Bool  // ended: it does not come back
	seen atomic.Pointer[seen]
}

func newLive(key hash, r record) *live {
	l := &live{key: key, r: r}
	l.used.Store(r.Used.UnixNano())
	l.kept.Store(r.Used.UnixNano())
	return l
}

func (l *live) late(now time.Time, idle time.Duration) bool {
	return !now.Before(l.r.Ends) || now.UnixNano()-l.used.Load() >= int64(idle)
}

func (l *live) session(idle time.Duration) *Session {
	r, used := &l.r, time.Unix(0, l.used.Load())
	return &Session{ID: r.ID, Who: r.Who, App: r.App, How: r.How, Created: r.Created, Used: used, Ends: r.Ends, IdleEnds: used.Add(idle),
		RemoteHost: r.Remote, Agent: r.Agent, Audit: r.Audit, Shown: r.Shown}
}

// add puts a session into the lists. s.mu is held, or nobody else knows s yet.
func (s *Sessions) add(l *live) {
	s.byKey[l.key], s.byID[l.r.ID] = l, l
	k := l.r.Who.key()
	if s.byRow[k] == nil {
		s.byRow[k] = map[*live]struct{}{}
	}
	s.byRow[k][l] = struct{}{}
}

// of returns the sessions of somebody.
func (s *Sessions) of(k whoKey) []*live {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*live, 0, len(s.byRow[k]))
	for l := range s.byRow[k] {
		all = append(all, l)
	}
	return all
}

// find returns the session of a cookie's value.
func (s *Sessions) find(token string) (*live, error) {
	h, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	l := s.byKey[h]
	s.mu.RUnlock()
	if l == nil || l.over.Load() || l.late(s.c.Now(), s.settings().Idle) {
		return nil, ErrNone
	}
	return l, nil
}

// Get returns the session of a cookie's value and whose it is, and counts it as
// used. ErrNone: there is none, or its owner is disabled or gone.
// fault.Denied: the access rules do not let them in any longer.
// fault.Unreachable: nobody can say. app is that of the session; empty: this
// machine's own pages.
func (s *Sessions) Get(ctx context.Context, token, app string) (*Session, *Person, error) {
	l, err := s.find(token)
	if err != nil {
		return nil, nil, err
	}
	if l.r.App != app {
		return nil, nil, ErrNone
	}
	p, err := s.person(ctx, l, false)
	if err != nil {
		return nil, nil, err
	}
	l.used.Store(s.c.Now().UnixNano())
	return l.session(s.settings().Idle), p, nil
}

// Check is Get without the session: the cheapest look.
func (s *Sessions) Check(ctx context.Context, token, app string) (*Person, error) {
	l, err := s.find(token)
	if err != nil {
		return nil, err
	}
	if l.r.App != app {
		return nil, ErrNone
	}
	p, err := s.person(ctx, l, false)
	if err == nil {
		l.used.Store(s.c.Now().UnixNano())
	}
	return p, err
}

// Seen is Check for a caller that must not wait: what can be said without a look
// into the store. Nil and sure: there is no such session. Not sure: ask Check.
func (s *Sessions) Seen(token, app string) (p *Person, sure bool) {
	l, err := s.find(token)
	if err != nil || l.r.App != app {
		return nil, true
	}
	now := s.c.Now()
	if p = l.lately(now, s.c.Store.Position()); p != nil {
		l.used.Store(now.UnixNano())
	}
	return p, p != nil
}

// lately is the owner as they were a moment ago, while the mirror is where it
// was; nil where somebody has to look.
func (l *live) lately(now time.Time, on position) *Person {
	if seen := l.seen.Load(); seen != nil && seen.on == on && now.Sub(seen.at) < trustFor {
		return seen.p
	}
	return nil
}

// crowd returns the sessions that give way to one more of somebody's.
func (s *Sessions) crowd(k whoKey) []*live {
	all := s.of(k)
	if len(all) < maxPerRow {
		return nil
	}
	slices.SortFunc(all, func(a, b *live) int { return int(min(max(a.used.Load()-b.used.Load(), -1), 1)) })
	return all[:len(all)-maxPerRow+1]
}

// remove takes sessions out of the lists. s.mu is held.
func (s *Sessions) remove(gone []*live) {
	for _, l := range gone {
		delete(s.byKey, l.key)
		delete(s.byID, l.r.ID)
		k := l.r.Who.key()
		if delete(s.byRow[k], l); len(s.byRow[k]) == 0 {
			delete(s.byRow, k)
		}
	}
}

// end ends sessions: at once here, and in the store. An error says that they may
// come back when the daemon is started again.
func (s *Sessions) end(ctx context.Context, gone []*live) error {
	if len(gone) == 0 {
		return nil
	}
	notes := map[string][]byte{}
	for _, l := range gone {
		l.over.Store(true)
		notes[l.key.note(keySession)] = nil
	}
	s.mu.Lock()
	s.remove(gone)
	s.mu.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.c.Store.SetNotes(context.WithoutCancel(ctx), topic, notes)
}
