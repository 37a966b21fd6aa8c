// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// person is a row with its groups, in one consistent look.
type person struct {
	user   *identity.User
	groups []*identity.Group
	rows   []identity.RowID // of the groups
	gids   []identity.GID
}

// look reads the row that key finds. fault.Unreachable: the mirror has never
// been complete, nobody knows.
func (l *Login) look(ctx context.Context, key identity.Key) (*person, error) {
	p := &person{}
	err := l.c.Store.View(ctx, func(v *store.View) error {
		e, err := v.Get(key, identity.KindUser)
		if err != nil {
			if fault.Is(err, fault.NotFound) && !v.Complete() {
				return fault.New(fault.Unreachable, "the people of the domain are not known yet")
			}
			return err
		}
		p.user, p.rows = e.User, v.GroupsOf(e.User.Row)
		for _, row := range p.rows {
			if g, ok := v.Row(row); ok && g.Group != nil {
				p.groups = append(p.groups, g.Group)
			}
		}
		p.gids = slices.Clone(v.GIDs(e.User.Row, nil))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if l.c.Present != nil {
		l.c.Present(p.user)
	}
	return p, nil
}

// find finds whom a request is about: in the mirror, or, where the mirror has
// not met them yet, in the directory.
func (l *Login) find(ctx context.Context, a *attempt) (*person, error) {
	if err := identity.CheckAsked(a.req.Name); err != nil {
		return nil, fault.Wrap(fault.NotFound, "read the name", err)
	}
	d, err := l.membership(ctx)
	if err != nil {
		return nil, err
	}
	key := identity.Key{Kind: identity.ByName, Name: a.req.Name}
	if p, err := l.byAlias(ctx, a.req.Name); !fault.Is(err, fault.NotFound) || errors.Is(err, errSeveral) {
		if err == nil {
			a.found(p.user)
		}
		return p, err
	}
	return l.findKey(ctx, a, d, key)
}

// membership is how the domain is asked now.
func (l *Login) membership(ctx context.Context) (*Domain, error) {
	if d := l.c.Domain(); d != nil {
		return d, nil
	}
	machine, err := l.c.Store.Machine(ctx)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.WithRemedy(fault.Wrap(fault.NotFound, "find the domain", ErrNoDomain), fault.Remedy(err))
	}
	if err != nil {
		return nil, err
	}
	machine.Wipe()
	return nil, fault.New(fault.Unreachable, "the membership is not taken up yet")
}

// findKey finds the row of a key, as find does.
func (l *Login) findKey(ctx context.Context, a *attempt, d *Domain, key identity.Key) (*person, error) {
	p, err := l.look(ctx, key)
	if fault.Is(err, fault.NotFound) && l.mayAsk() {
		if e, refreshed := l.refresh(ctx, d, key); refreshed == nil && e.User != nil {
			p, err = l.look(ctx, key)
		}
	}
	if err != nil {
		return nil, err
	}
	a.found(p.user)
	return p, nil
}

// mayAsk says whether the directory answered lately, as far as is known.
func (l *Login) mayAsk() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.c.Now().Before(l.unreadable)
}

// refresh reads a row afresh; a directory that is silent is left alone a while.
func (l *Login) refresh(ctx context.Context, d *Domain, key identity.Key) (store.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	e, err := d.Refresh.RefreshOne(ctx, key)
	if fault.Is(err, fault.Unreachable) {
		l.mu.Lock()
		l.unreadable = l.c.Now().Add(skipRefresh)
		l.mu.Unlock()
	}
	return e, err
}

// renew reads a person afresh. Where the directory cannot be asked, the mirror's
// row counts. Gone from the directory is fault.Disabled: the row is still here.
func (l *Login) renew(ctx context.Context, d *Domain, p *person) (*person, error) {
	if l.mayAsk() {
		before := l.c.Store.Position()
		_, err := l.refresh(ctx, d, identity.Key{Kind: identity.ByObjectGUID, GUID: p.user.ObjectGUID})
		if l.c.Shown != nil && l.c.Store.Position() != before {
			// Whoever is let in is to have today's groups, by initgroups as well.
			wait, cancel := context.WithTimeout(ctx, shownTime)
			if late := l.c.Shown(wait); late != nil {
				l.c.Log.Warn("somebody's names and groups have changed and are not published yet", "row", p.user.Row, "error", late)
			}
			cancel()
		}
		switch {
		case fault.Is(err, fault.NotFound):
			return nil, fault.Wrap(fault.Disabled, "the directory has this account no longer", err)
		case fault.Is(err, fault.Unreachable):
			l.c.Log.Debug("a row could not be read afresh before a sign-in", "row", p.user.Row, "error", err)
		case err != nil:
			return nil, err
		}
	}
	return l.look(ctx, identity.Key{Kind: identity.ByRow, Row: p.user.Row})
}

// state refuses an account that may not be used, whatever proved it.
func (l *Login) state(u *identity.User) error {
	expired := u.State.Has(identity.AccountExpired) || !u.AccountExpires.IsZero() && !l.c.Now().Before(u.AccountExpires)
	switch {
	case u.State.Has(identity.Conflicted):
		return fault.WithRemedy(fault.New(fault.Denied, "two objects of the directory claim to be this person"), "see `latchkey status`; delete the wrong object")
	case u.State.Has(identity.Disabled):
		return fault.WithRemedy(fault.New(fault.Disabled, "the account is disabled"), "enable it in Entra ID; the managed domain follows within minutes")
	case expired:
		return fault.WithRemedy(fault.New(fault.Expired, "the account has expired"), "set a later end in the directory")
	case u.UID == 0 || u.GID == 0 || u.Name == "":
		return fault.WithRemedy(fault.Errorf(fault.Denied, "this person has no name or number on this machine (%s)", u.Unpublished), "`latchkey user list --unpublished` says why")
	}
	return nil
}

// result is what a door gets of somebody who is let in.
func (p *person) result(how How, session string) *Result {
	return &Result{User: p.user, Groups: p.groups, GIDs: p.gids, How: how, Session: session}
}

// synced says that the password is kept in Entra ID and cannot be changed in
// the domain: only Microsoft's sync writes an oid.
func synced(u *identity.User) bool { return !u.OID.IsZero() }

// printable is s without what could move a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
