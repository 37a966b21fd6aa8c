// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Filter chooses sessions; its zero value all of them.
type Filter struct {
	Row   identity.RowID // of one person
	Local string         // of one account of this machine
	App   *string        // of one app; "" is this machine's own pages
}

func (f Filter) fits(l *live) bool {
	return (f.Row == 0 || l.r.Who.Row == f.Row) && (f.Local == "" || l.r.Who.Local != nil && l.r.Who.Local.Name == f.Local) && (f.App == nil || l.r.App == *f.App)
}

// List returns sessions, the one that was used last first.
func (s *Sessions) List(f Filter) []*Session {
	set, now := s.settings(), s.c.Now()
	var all []*Session
	s.mu.RLock()
	for _, l := range s.pick(f) {
		if f.fits(l) && !l.over.Load() && !l.late(now, set.Idle) {
			all = append(all, l.session(set.Idle))
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b *Session) int { return b.Used.Compare(a.Used) })
	return all
}

// pick returns the sessions that a filter may fit. s.mu is held.
func (s *Sessions) pick(f Filter) []*live {
	var all []*live
	if k := (whoKey{f.Row, f.Local}); k != (whoKey{}) {
		for l := range s.byRow[k] {
			all = append(all, l)
		}
		return all
	}
	for _, l := range s.byKey {
		all = append(all, l)
	}
	return all
}

// Count returns how many sessions there are.
func (s *Sessions) Count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.byKey)
}

// Revoke ends one session by its id, if the filter fits it, and the apps'
// sessions that came of it. fault.NotFound: there is none.
func (s *Sessions) Revoke(ctx context.Context, id string, f Filter) error {
	s.mu.RLock()
	l := s.byID[id]
	s.mu.RUnlock()
	if l == nil || !f.fits(l) {
		return fault.New(fault.NotFound, "there is no such session")
	}
	return s.end(ctx, s.family(l))
}

// RevokeAll ends every session that a filter fits and returns how many.
func (s *Sessions) RevokeAll(ctx context.Context, f Filter) (int, error) {
	var gone []*live
	s.mu.RLock()
	for _, l := range s.pick(f) {
		if f.fits(l) {
			gone = append(gone, l)
		}
	}
	s.mu.RUnlock()
	return len(gone), s.end(ctx, gone)
}

// family returns a session and the apps' sessions that came of it.
func (s *Sessions) family(l *live) []*live {
	all := []*live{l}
	for _, other := range s.of(l.r.Who.key()) {
		if other != l && other.r.From == l.r.ID {
			all = append(all, other)
		}
	}
	return all
}

// SignOut ends the session of a cookie's value, and the apps' sessions that came
// of it. The address, which may be empty, is where the tenant ends its own
// session of the browser. A cookie of no session is no error.
func (s *Sessions) SignOut(ctx context.Context, token string) (tenant string, err error) {
	l, err := s.find(token)
	if err != nil {
		return "", nil
	}
	if p := s.provider(); p != nil && l.r.Issuer == p.Issuer() {
		tenant = p.SignOutURL("")
	}
	return tenant, s.end(ctx, s.family(l))
}

// SignedOut is the tenant's word, through a browser, that one of its sessions is
// over (OpenID Connect Front-Channel Logout 1.0): every session that came of it
// ends. It returns how many. A sid that is nobody's is no error: anybody may say it.
func (s *Sessions) SignedOut(ctx context.Context, issuer, sid string) (int, error) {
	p := s.provider()
	if sid == "" || p == nil || issuer != "" && issuer != p.Issuer() {
		return 0, nil
	}
	var gone []*live
	s.mu.RLock()
	for _, l := range s.byKey {
		if l.r.Provider == sid && l.r.Issuer == p.Issuer() {
			gone = append(gone, l)
		}
	}
	s.mu.RUnlock()
	return len(gone), s.end(ctx, gone)
}

// End ends the session of an app's token, and returns how many ended. A token of
// no session of that app is no error.
func (s *Sessions) End(ctx context.Context, token, app string) (int, error) {
	l, err := s.find(token)
	if err != nil || l.r.App != app {
		return 0, nil
	}
	gone := s.family(l)
	return len(gone), s.end(ctx, gone)
}
