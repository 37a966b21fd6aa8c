// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"context"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Publication chooses rows by whether their bare name is published.
type Publication uint8

// The choices.
const (
	All Publication = iota
	Published
	Unpublished
)

// String returns the choice in lower case.
func (p Publication) String() string { return [...]string{"all", "published", "unpublished"}[p] }

// Query asks for one page of a list in the order of published names.
type Query struct {
	Limit       int    // of rows; at least 1
	After       Mark   // zero: from the start
	Filter      string // text that a name, display name, mail address or UPN contains, any case; empty: all
	Publication Publication
}

// Page is a part of a list. It may be shorter than asked for.
type Page struct {
	Entries []Entry
	// Marks are the places of the entries: a list goes on after any of them.
	Marks []Mark
	// End is where the next page begins, and More says that there is one.
	End  Mark
	More bool
}

// List returns one page of the users or of the groups. fault.Unreachable: the
// mirror was never complete.
func (r *Resolver) List(ctx context.Context, kind identity.Kind, q Query) (page Page, err error) {
	c, err := r.current(ctx)
	if err != nil {
		return Page{}, err
	}
	items, text := c.of(kind), fold(q.Filter)
	first, found := slices.BinarySearchFunc(items, q.After, func(it item, m Mark) int { return it.mark().compare(m) })
	if found {
		first++
	}
	var hits []*item
	for i := range items[first:] {
		it := &items[first+i]
		if !it.chosen(q.Publication) || !strings.Contains(it.text, text) {
			continue
		}
		if len(hits) == q.Limit {
			page.More = true
			break
		}
		hits = append(hits, it)
		page.End = it.mark()
	}
	page.Entries, page.Marks, err = r.read(ctx, hits)
	return page, err
}

func (it *item) chosen(p Publication) bool {
	return p == All || (p == Unpublished) == it.unpublished
}

// read returns the rows of items; those that are gone since are left out.
func (r *Resolver) read(ctx context.Context, items []*item) (entries []Entry, marks []Mark, err error) {
	entries, marks = make([]Entry, 0, len(items)), make([]Mark, 0, len(items))
	err = r.memory.View(ctx, func(v View) error {
		if !v.Complete() {
			return r.notComplete()
		}
		for i, it := range items {
			if i%64 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if e, ok := v.Row(it.row); ok {
				entries, marks = append(entries, r.show(v, e)), append(marks, it.mark())
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return entries, marks, nil
}
