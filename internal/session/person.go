// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// seen is the person as a session found them last.
type seen struct {
	p  *Person
	at time.Time
	on position
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
