// SPDX-License-Identifier: Apache-2.0

// Package resolve answers who somebody is: from a key of any kind to the one
// row of a user or group, to lists, searches, memberships and changes.
//
// It reads what the mirror has put into the store and nothing else. It never
// asks the network, never walks nested groups (the mirror has resolved them),
// never changes a row, and never says that somebody does not exist before the
// mirror has been complete once: until then the answer is fault.Unreachable,
// for nobody knows yet.
package resolve

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Entry is one row: a user or a group, never both. The caller owns it.
type Entry struct {
	User  *identity.User
	Group *identity.Group
	// Qualified is "DOMAIN\\account" with the domain's NetBIOS name; empty where
	// that is not known.
	Qualified string
	// Members is how many users belong to the group, nested groups included.
	Members int
}

// Common returns what users and groups share; nil for the empty entry.
func (e Entry) Common() *identity.Common {
	switch {
	case e.User != nil:
		return &e.User.Common
	case e.Group != nil:
		return &e.Group.Common
	}
	return nil
}

// Answer is one of a batch: an entry, or why there is none.
type Answer struct {
	Entry
	Err error
}

// Resolver answers lookups. Safe for concurrent use.
type Resolver struct {
	memory       Memory
	presentation atomic.Pointer[Presentation]

	updating  sync.Mutex // one goroutine brings the catalogue up to date
	catalogue atomic.Pointer[catalogue]
}

// Presentation is what a row gets from the configuration when it is shown.
type Presentation struct {
	// Present fills in gecos, home and shell; nil leaves the row as it is.
	Present func(*identity.User)
	// Domain is the domain that the machine is in; zero: none.
	Domain identity.Domain
	// Unjoined says that the machine is in no domain: what is not known then will
	// not be known by waiting.
	Unjoined bool
}

// New returns a resolver over memory.
func New(memory Memory, p Presentation) *Resolver {
	r := &Resolver{memory: memory}
	r.SetPresentation(p)
	return r
}

// SetPresentation replaces the presentation, for lookups that begin after it
// returns.
func (r *Resolver) SetPresentation(p Presentation) { r.presentation.Store(&p) }

// Version stands for everything that answers depend on, but for the clock: the
// rows, and how they are shown. Two equal versions mean that nothing changed in
// between.
type Version struct {
	log   store.Position
	shown *Presentation
}

// Version returns the version of answers that are read after it returns. Cheap.
func (r *Resolver) Version() Version {
	return Version{r.memory.Position(), r.presentation.Load()}
}

// User returns the user that key finds. fault.NotFound: nobody has it;
// fault.Unreachable: the mirror was never complete, so nobody knows;
// fault.Malformed: a key that is none; fault.Conflict: an Entra object id that
// two live objects carry.
func (r *Resolver) User(ctx context.Context, key identity.Key) (Entry, error) {
	return r.one(ctx, key, identity.KindUser)
}

// Group returns the group that key finds, with its number of members. Errors as
// for User.
func (r *Resolver) Group(ctx context.Context, key identity.Key) (Entry, error) {
	return r.one(ctx, key, identity.KindGroup)
}

// Question asks for one row of a kind; kind 0 is either.
type Question struct {
	Key  identity.Key
	Kind identity.Kind
}

// Resolve answers each question, in order, out of one consistent look at the
// rows. The error is of the whole: the store failed.
func (r *Resolver) Resolve(ctx context.Context, questions []Question) ([]Answer, error) {
	answers := make([]Answer, len(questions))
	err := r.memory.View(ctx, func(v View) error {
		for i, q := range questions {
			if i%64 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			answers[i].Entry, answers[i].Err = r.get(v, q.Key, q.Kind)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

func (r *Resolver) one(ctx context.Context, key identity.Key, kind identity.Kind) (e Entry, err error) {
	err = r.memory.View(ctx, func(v View) (err error) {
		e, err = r.get(v, key, kind)
		return err
	})
	return e, err
}

func (r *Resolver) get(v View, key identity.Key, kind identity.Kind) (Entry, error) {
	e, err := v.Get(key, kind)
	if err != nil {
		if fault.Is(err, fault.NotFound) && !v.Complete() {
			return Entry{}, r.notComplete()
		}
		return Entry{}, err
	}
	return r.show(v, e), nil
}

// errNotComplete is the answer to every miss until the first pass is through.
var errNotComplete = fault.WithRemedy(
	fault.New(fault.Unreachable, "the directory has not been mirrored completely yet"),
	"wait for the first sync; `latchkey status` shows how far it is")

// errNoDomain is the answer while the machine is in no domain, before a join and
// after a leave.
var errNoDomain = fault.WithRemedy(fault.New(fault.Unreachable, "this machine is in no domain"), "join one: latchkey join DOMAIN --user NAME")

// notComplete says why nobody can be told yet.
func (r *Resolver) notComplete() error {
	if r.presentation.Load().Unjoined {
		return errNoDomain
	}
	return errNotComplete
}

// show is the one place where a row becomes what a door shows.
func (r *Resolver) show(v View, e store.Entry) Entry {
	p, shown := r.presentation.Load(), Entry{User: e.User, Group: e.Group}
	switch {
	case e.User != nil:
		if p.Present != nil {
			p.Present(e.User)
		}
	case e.Group != nil:
		shown.Members = v.MemberCount(e.Group.Row)
	default:
		return shown
	}
	shown.Qualified = r.Qualified(shown.Common())
	return shown
}

// Qualified returns Entry.Qualified for a row that was found by somebody else.
func (r *Resolver) Qualified(c *identity.Common) string {
	domain := r.presentation.Load().Domain.NetBIOS
	if domain == "" || c.Account == "" {
		return ""
	}
	return domain + `\` + c.Account
}
