// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
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

// seen is the person as a session found them last.
type seen struct {
	p  *Person
	at time.Time
	on position
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

// Person is who a session belongs to, as of now. It is shared: do not change it.
type Person struct {
	User   *identity.User // nil for an account of this machine
	Groups []*identity.Group
	Local  *Local // nil for a row of the mirror

	name   string
	uid    identity.UID
	groups []string
	gids   []identity.GID

	header [3]string // see Header
}

// Header is the person as an HTTP header may say it: name, number, and the names
// of the groups with commas between. All but letters, digits and . _ ~ - is
// percent-encoded (RFC 3986 2.1), a comma in a name as well.
func (p *Person) Header() (user, uid, groups string) {
	return p.header[0], p.header[1], p.header[2]
}

func (p *Person) encode() *Person {
	groups := make([]string, len(p.groups))
	for i, g := range p.groups {
		groups[i] = percent(g)
	}
	p.header = [3]string{percent(p.name), strconv.FormatUint(uint64(p.uid), 10), strings.Join(groups, ",")}
	return p
}

func percent(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '~', c == '-':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// GIDs are the numbers of all their groups, ascending.
func (p *Person) GIDs() []identity.GID { return p.gids }

// Name is the name that this machine knows them by.
func (p *Person) Name() string { return p.name }

// UID is their number on this machine.
func (p *Person) UID() identity.UID { return p.uid }

// GroupNames are the names of all their groups, nested ones too, that have one,
// sorted.
func (p *Person) GroupNames() []string { return p.groups }

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

// person looks at a session's owner, unless that was done lately. Somebody who
// may have no session any longer loses it here.
func (s *Sessions) person(ctx context.Context, l *live, anew bool) (*Person, error) {
	now, on := s.c.Now(), s.c.Store.Position()
	if p := l.lately(now, on); !anew && p != nil {
		return p, nil
	}
	p, err := s.lookUp(ctx, l.r.Who, now)
	switch fault.KindOf(err) {
	case fault.NotFound, fault.Disabled, fault.Expired, fault.Conflict:
		s.c.Log.Info("a session ends, for its owner may not have one any longer", "session", l.r.ID, "name", l.r.Shown, "why", err)
		if failed := s.end(ctx, []*live{l}); failed != nil {
			s.c.Log.Warn("a session that has ended cannot be removed from the store", "error", failed)
		}
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	l.seen.Store(&seen{p: p, at: now, on: on})
	return p, nil
}

// lookUp reads somebody as they are now.
func (s *Sessions) lookUp(ctx context.Context, who Who, now time.Time) (*Person, error) {
	if a := who.Local; a != nil {
		if s.c.Local != nil && !s.c.Local(a.Name, a.UID) {
			return nil, fault.New(fault.NotFound, "the account of this machine is gone")
		}
		return (&Person{Local: a, name: a.Name, uid: a.UID, groups: a.Groups, gids: a.GIDs}).encode(), nil
	}
	p := &Person{}
	var rows []identity.RowID
	err := s.c.Store.View(ctx, func(v *store.View) error {
		e, err := v.Get(identity.Key{Kind: identity.ByRow, Row: who.Row}, identity.KindUser)
		if err != nil {
			return err
		}
		p.User, rows = e.User, v.GroupsOf(who.Row)
		p.gids = slices.Clone(v.GIDs(who.Row, nil))
		for _, row := range rows {
			if g, ok := v.Row(row); ok && g.Group != nil {
				p.Groups = append(p.Groups, g.Group)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	u := p.User
	switch {
	case u.State.Has(identity.Disabled):
		return nil, fault.New(fault.Disabled, "the account is disabled")
	case u.State.Has(identity.AccountExpired) || !u.AccountExpires.IsZero() && !now.Before(u.AccountExpires):
		return nil, fault.New(fault.Expired, "the account has expired")
	case u.State.Has(identity.Conflicted):
		return nil, fault.New(fault.Conflict, "two objects claim to be this person")
	case u.UID == 0 || u.Name == "":
		return nil, fault.New(fault.NotFound, "this person has no name or number on this machine")
	}
	rules, err := s.c.Policy(ctx)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "read the access rules", err)
	}
	if d := rules.Decide(Service, u.Row, rows); !d.Allowed {
		return nil, fault.New(fault.Denied, d.Why)
	}
	if s.c.Present != nil {
		s.c.Present(u)
	}
	p.name, p.uid = u.Name, u.UID
	for _, g := range p.Groups {
		if g.Name != "" {
			p.groups = append(p.groups, g.Name)
		}
	}
	slices.Sort(p.groups)
	return p.encode(), nil
}

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
	for _, old := range gone {
		old.over.Store(err == nil)
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
