// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// catalogue is what lists and searches look through: the folded names of every
// row, in the order of published names, without the rows themselves. It is made
// at the first question, brought up to date from the log of changes at later
// ones, and never changed once others can see it. It takes about 200 bytes a
// row.
type catalogue struct {
	at     store.Position // every change up to here is in it
	users  []item
	groups []item
}

func (c *catalogue) of(kind identity.Kind) []item {
	if kind == identity.KindUser {
		return c.users
	}
	return c.groups
}

// item is one row's names, folded, joined by a byte that no name has.
type item struct {
	row         identity.RowID
	unpublished bool
	text        string
	key         int // text[:key] is what the list is sorted by
	display     int // text[display:mails] is the display name
	mails       int // text[mails:] are the other names
}

const joint = "\x00"

func newItem(e store.Entry) item {
	c := e.Common()
	it := item{row: c.Row, unpublished: c.Unpublished != ""}
	var b strings.Builder
	name := c.Name
	if name == "" {
		name = c.Account
	}
	b.WriteString(fold(name))
	it.key = b.Len()
	b.WriteString(joint)
	b.WriteString(fold(c.Account))
	b.WriteString(joint)
	it.display = b.Len()
	b.WriteString(fold(c.DisplayName))
	b.WriteString(joint)
	it.mails = b.Len()
	others := []string{c.Mail, c.MailNickname}
	if e.User != nil {
		others = append(others, e.User.UPN, e.User.GivenName, e.User.Surname)
	}
	for _, o := range others {
		if o != "" {
			b.WriteString(fold(o))
			b.WriteString(joint)
		}
	}
	it.text = b.String()
	return it
}

// fold is identity.Fold without the joint, which hostile text may contain.
func fold(s string) string {
	if strings.Contains(s, joint) {
		s = strings.ReplaceAll(s, joint, " ")
	}
	return identity.Fold(s)
}

func (it *item) mark() Mark { return Mark{Name: it.text[:it.key], Row: it.row} }

// Mark is a place in a list: after the row with this name. A list goes on from
// it truly even when rows came or went in between. The zero Mark is the start.
type Mark struct {
	Name string
	Row  identity.RowID
}

func (m Mark) compare(o Mark) int {
	return cmp.Or(cmp.Compare(m.Name, o.Name), cmp.Compare(m.Row, o.Row))
}

func compareItems(a, b item) int { return a.mark().compare(b.mark()) }

// changesAtOnce is how many changes are read in one go.
const changesAtOnce = 1024

// current returns a catalogue that holds every change that was committed before
// the call.
func (r *Resolver) current(ctx context.Context) (*catalogue, error) {
	if c := r.catalogue.Load(); c != nil && c.at == r.memory.Position() {
		return c, nil
	}
	r.updating.Lock()
	defer r.updating.Unlock()
	c := r.catalogue.Load()
	if c != nil && c.at == r.memory.Position() {
		return c, nil
	}
	next, err := r.update(ctx, c)
	if fault.Is(err, fault.NotFound) || (err == nil && next == nil) {
		next, err = r.rebuild(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.catalogue.Store(next)
	return next, nil
}

// rebuild reads every row.
func (r *Resolver) rebuild(ctx context.Context) (*catalogue, error) {
	c := &catalogue{}
	err := r.memory.View(ctx, func(v View) error {
		c.at = v.Position()
		for kind, list := range map[identity.Kind]*[]item{identity.KindUser: &c.users, identity.KindGroup: &c.groups} {
			n := 0
			if err := v.List(kind, "", func(e store.Entry, _ string) bool {
				*list = append(*list, newItem(e))
				n++
				return n%256 != 0 || ctx.Err() == nil
			}); err != nil {
				return err
			}
			slices.SortFunc(*list, compareItems)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// update returns c with all changes since, or nil where c is nil. The changes
// are read before the rows, so a row may be newer than its change: it will be
// told of again, and reading it twice does no harm.
func (r *Resolver) update(ctx context.Context, c *catalogue) (*catalogue, error) {
	if c == nil {
		return nil, nil
	}
	at := c.at
	touched := map[identity.RowID]bool{}
	for {
		changes, err := r.memory.Changes(ctx, at, changesAtOnce)
		if err != nil {
			return nil, err
		}
		if len(changes) == 0 {
			break
		}
		for _, ch := range changes {
			touched[ch.Row] = true
			at.Seq = ch.Seq
		}
	}
	var users, groups []item
	err := r.memory.View(ctx, func(v View) error {
		for row := range touched {
			if e, ok := v.Row(row); ok {
				if e.User != nil {
					users = append(users, newItem(e))
				} else {
					groups = append(groups, newItem(e))
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &catalogue{at: at, users: merge(c.users, users, touched), groups: merge(c.groups, groups, touched)}, nil
}

// merge returns old without the touched rows and with their new items, in order.
func merge(old, fresh []item, touched map[identity.RowID]bool) []item {
	slices.SortFunc(fresh, compareItems)
	out := make([]item, 0, len(old)+len(fresh))
	for _, it := range old {
		if touched[it.row] {
			continue
		}
		for len(fresh) > 0 && compareItems(fresh[0], it) < 0 {
			out = append(out, fresh[0])
			fresh = fresh[1:]
		}
		out = append(out, it)
	}
	return append(out, fresh...)
}
