// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// TestRandomHistories lets a directory live: people come, go, come back, change
// names, are re-created, the domain is rebuilt, DCs change and die. Whatever
// happens, in whatever order the mirror hears of it: a number never has two
// owners, and a person never gets another number.
func TestRandomHistories(t *testing.T) {
	rounds := 12
	if n, err := strconv.Atoi(os.Getenv("LATCHKEY_HISTORIES")); err == nil {
		rounds = n
	}
	defer func(p, m int) { piece, pieceMembers = p, m }(piece, pieceMembers)
	for seed := range rounds {
		if seed%2 == 1 { // as a large domain, in many transactions
			piece, pieceMembers = 3, 4
		} else {
			piece, pieceMembers = 8192, 1<<18
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { history(t, uint64(seed)) })
	}
}

type life struct {
	t      *testing.T
	rng    *rand.Rand
	dc     *fakeDC
	b      *box
	people []string                 // who was ever there
	here   map[string]identity.GUID // who has an object now
	groups []identity.GUID
	number map[identity.GUID]uint32 // oid -> the number it got first
	owner  map[uint32]identity.GUID // the other way round
	row    map[identity.GUID]identity.RowID
	names  int
}

func history(t *testing.T, seed uint64) {
	dc := newFakeDC()
	l := &life{t: t, rng: rand.New(rand.NewPCG(seed, 1)), dc: dc, b: newBox(t, dc), here: make(map[string]identity.GUID),
		number: make(map[identity.GUID]uint32), owner: make(map[uint32]identity.GUID), row: make(map[identity.GUID]identity.RowID)}
	for range 12 {
		l.hire()
	}
	for step := range 60 {
		for range 1 + l.rng.IntN(4) {
			l.event()
		}
		l.look(step)
	}
	// In the end the mirror is what the directory is.
	l.b.sync(Request{Full: true, AcceptDeletions: true})
	l.b.sync(Request{Full: true, AcceptDeletions: true})
	if res := l.b.sync(Request{Full: true, AcceptDeletions: true}); res.Added+res.Changed+res.Removed+res.Held != 0 {
		t.Errorf("the mirror does not settle: %+v", res)
	}
	l.compare()
}

func (l *life) hire() {
	p := fmt.Sprintf("p%03d", len(l.people))
	l.people = append(l.people, p)
	l.here[p] = l.dc.user(p)
}

func (l *life) somebody() (string, identity.GUID, bool) {
	if len(l.here) == 0 {
		return "", identity.GUID{}, false
	}
	var all []string
	for p := range l.here {
		all = append(all, p)
	}
	slices.Sort(all)
	p := all[l.rng.IntN(len(all))]
	return p, l.here[p], true
}

// fresh makes an object for a person, with a name of its own.
func (l *life) fresh(p string) {
	l.names++
	guid := l.dc.user(fmt.Sprintf("%s-%d", p, l.names))
	l.dc.change(guid, func(o *directory.Object) { o.OID = oidOf(p) })
	l.here[p] = guid
}

func (l *life) event() {
	p, guid, ok := l.somebody()
	if !ok {
		l.hire()
		return
	}
	switch l.rng.IntN(14) {
	case 0, 1:
		l.hire()
	case 2: // leaves, or comes back
		l.dc.remove(guid)
		delete(l.here, p)
	case 3:
		back := l.people[l.rng.IntN(len(l.people))]
		if _, there := l.here[back]; !there {
			l.fresh(back)
		}
	case 4: // re-created in one go
		l.dc.remove(guid)
		l.fresh(p)
	case 5: // renamed
		l.names++
		l.dc.change(guid, func(o *directory.Object) {
			o.SAMAccountName = fmt.Sprintf("n%d", l.names)
			o.UPN = o.SAMAccountName + "@contoso.com"
		})
	case 6: // swaps names with somebody
		_, other, _ := l.somebody()
		a, b := l.dc.objects[guid].SAMAccountName, l.dc.objects[other].SAMAccountName
		l.dc.change(guid, func(o *directory.Object) { o.SAMAccountName = b })
		l.dc.change(other, func(o *directory.Object) { o.SAMAccountName = a })
	case 7: // two objects for one person, for a while
		l.names++
		second := l.dc.user(fmt.Sprintf("%s-twin%d", p, l.names))
		l.dc.change(second, func(o *directory.Object) { o.OID = oidOf(p) })
		l.pass()
		if l.rng.IntN(2) == 0 {
			l.dc.remove(second)
		} else {
			l.dc.remove(guid)
			l.here[p] = second
		}
	case 8: // an object of a custom OU, with a forged oid
		l.dc.lock.Lock()
		l.names++
		o := l.dc.newObject(directory.ClassUser, fmt.Sprintf("svc%d", l.names), custom)
		o.OID = oidOf(p)
		l.dc.lock.Unlock()
	case 9: // groups
		var members []identity.GUID
		for range l.rng.IntN(5) {
			_, m, _ := l.somebody()
			members = append(members, m)
		}
		if n := len(l.groups); n > 0 && l.rng.IntN(2) == 0 {
			if g := l.groups[l.rng.IntN(n)]; l.dc.objects[g] != nil {
				l.dc.setMembers(g, members...)
				break
			}
		}
		l.names++
		l.groups = append(l.groups, l.dc.group(fmt.Sprintf("team%d", l.names), members...))
	case 10: // the domain is rebuilt, rarely
		if l.rng.IntN(4) > 0 {
			break
		}
		sid := identity.MustParseSID(fmt.Sprintf("S-1-5-21-%d-1-1", l.rng.IntN(3)+1))
		var names []string
		for p := range l.here {
			names = append(names, p)
		}
		slices.Sort(names)
		l.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		l.dc.recreate(sid)
		l.groups = nil
		for _, p := range names {
			l.fresh(p)
		}
		l.b.policy()
	case 11: // another DC, or one restored
		l.dc.invocation[4]++
	case 12: // a pass that breaks off
		l.dc.dieAfter = 1 + l.rng.IntN(10)
		_, _ = l.b.m.Sync(context.Background(), Request{Full: l.rng.IntN(2) == 0}, nil)
		l.dc.dieAfter = 0
	case 13:
		_, _ = l.b.m.RefreshOne(context.Background(), identity.Key{Kind: identity.ByOID, GUID: oidOf(p)})
	}
}

func (l *life) pass() {
	switch l.rng.IntN(5) {
	case 0:
		l.b.sync(Request{Full: true, AcceptDeletions: l.rng.IntN(2) == 0})
	case 2:
		l.b.hint()
	case 1:
		l.b.sweep()
	default:
		l.b.sync(Request{})
	}
}

// look makes a pass and checks the law.
func (l *life) look(step int) {
	l.pass()
	l.b.ids()
	err := l.b.store.View(context.Background(), func(v *store.View) error {
		return v.Each(identity.KindUser, func(e store.Entry) error {
			u := e.User
			if u.OID.IsZero() || u.UID == 0 {
				return nil
			}
			if first, ok := l.number[u.OID]; ok && first != uint32(u.UID) {
				return fmt.Errorf("step %d: %s had %d and has %d", step, u.OID, first, u.UID)
			}
			if first, ok := l.owner[uint32(u.UID)]; ok && first != u.OID {
				return fmt.Errorf("step %d: %d was %s's and is %s's", step, u.UID, first, u.OID)
			}
			if first, ok := l.row[u.OID]; ok && first != u.Row {
				return fmt.Errorf("step %d: %s had row %d and has %d", step, u.OID, first, u.Row)
			}
			l.number[u.OID], l.owner[uint32(u.UID)], l.row[u.OID] = uint32(u.UID), u.OID, u.Row
			return nil
		})
	})
	if err != nil {
		l.t.Fatal(err)
	}
	if step%10 == 0 {
		if err := l.b.store.Check(context.Background()); err != nil {
			l.t.Fatalf("step %d: %v", step, err)
		}
	}
}

// compare holds every object against its row.
func (l *life) compare() {
	seen := make(map[identity.RowID]bool)
	for _, o := range l.dc.objects {
		e, err := l.b.entry(identity.Key{Kind: identity.ByObjectGUID, GUID: o.ObjectGUID})
		if err != nil {
			l.t.Errorf("%s: %v", o.DN, err)
			continue
		}
		c := e.Common()
		if seen[c.Row] {
			l.t.Errorf("row %d has two objects", c.Row)
		}
		seen[c.Row] = true
		if c.SID != o.SID || c.Account != o.SAMAccountName || o.UnderSyncedOU && c.OID != o.OID || !o.UnderSyncedOU && !c.OID.IsZero() || c.State.Has(identity.Missing) {
			l.t.Errorf("%s is %+v", o.DN, c)
		}
	}
	err := l.b.store.View(context.Background(), func(v *store.View) error {
		return v.Each(0, func(e store.Entry) error {
			if !seen[e.Common().Row] {
				return fmt.Errorf("row %d, %s, has no object", e.Common().Row, e.Common().DN)
			}
			return nil
		})
	})
	if err != nil {
		l.t.Error(err)
	}
}
