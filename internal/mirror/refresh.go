// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"errors"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// RefreshOne reads one user (or group) from the DC, before a sign-in, and
// returns the row as it is then, its memberships included. Someone the mirror
// has not met yet is added. It does not wait for a pass that runs, unless
// memberships changed. fault.NotFound: the directory has nobody by this key, and
// a row that had it is marked missing. fault.Conflict: two live objects carry
// the oid. fault.Unreachable: it could not be asked in time; the row in the
// store stays as good as it was.
func (m *Mirror) RefreshOne(ctx context.Context, key identity.Key) (store.Entry, error) {
	e, err := m.refreshOne(ctx, key)
	return e, fault.Wrap(fault.Unknown, "refresh from the directory", err)
}

func (m *Mirror) refreshOne(ctx context.Context, key identity.Key) (store.Entry, error) {
	var known store.Entry
	complete := false
	if err := m.cfg.Store.View(ctx, func(v *store.View) (err error) {
		complete = v.Complete()
		known, err = v.Get(key, 0)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	}); err != nil {
		return store.Entry{}, err
	}
	if !complete { // without its groups nobody is known well enough
		if _, err := m.syncNow(ctx, Request{}, sweepNone, nil); err != nil {
			return store.Entry{}, err
		}
	}
	o, session, err := m.find(ctx, key, known.Common())
	if fault.Is(err, fault.NotFound) && known.Common() != nil {
		return store.Entry{}, errors.Join(err, m.missing(ctx, known.Common()))
	}
	if err != nil {
		return store.Entry{}, err
	}
	kept, ok := keep(o)
	if !ok {
		return store.Entry{}, fault.New(fault.NotFound, "the directory has no such user or group")
	}
	tokens := make(chan tokenGroups, 1)
	go func() { tokens <- readTokenGroups(ctx, session, &kept) }()
	if err := m.applyOne(ctx, session, kept, known.Common()); err != nil {
		return store.Entry{}, err
	}
	now, differ, err := m.compareGroups(ctx, o.ObjectGUID, <-tokens)
	if err != nil || !differ.any() {
		return now, err
	}
	// A group was changed: read the groups that were.
	if _, err := m.syncNow(ctx, Request{}, sweepNone, nil); err != nil {
		return store.Entry{}, err
	}
	now, differ, err = m.compareGroups(ctx, o.ObjectGUID, readTokenGroups(ctx, session, &kept))
	if err != nil || len(differ.surplus) == 0 {
		return now, err
	}
	// Or one was deleted, of which no change tells.
	if err := m.askGroups(ctx, session, differ.surplus); err != nil {
		return store.Entry{}, err
	}
	now, _, err = m.compareGroups(ctx, o.ObjectGUID, tokenGroups{})
	return now, err
}

type tokenGroups struct {
	sids []identity.SID
	err  error
}

// readTokenGroups asks which groups a user is in; nobody else is in any that
// would be compared.
func readTokenGroups(ctx context.Context, session Session, o *object) tokenGroups {
	if o.kind() != identity.KindUser {
		return tokenGroups{}
	}
	sids, err := session.TokenGroups(ctx, "<GUID="+o.ObjectGUID.String()+">")
	return tokenGroups{sids, err}
}

// askGroups reads groups that the DC does not count for somebody whom the mirror
// has in them. One that does not exist any more goes at once: the DC has said so
// twice, and somebody waits to be let in by it. Another DC than the one the mirror
// is of may not have heard of the group yet: its word takes none away.
func (m *Mirror) askGroups(ctx context.Context, session Session, guids []identity.GUID) error {
	dse, err := within(ctx, m.cfg.AnswerTimeout, session.RootDSE)
	if err != nil {
		return err
	}
	if p := (pass{at: m.position(), dse: dse}); !p.continues() {
		return nil
	}
	b := newBatch(false, m.cfg.Now())
	for _, g := range guids {
		if err := m.askOne(ctx, session, b, g); err != nil {
			return err
		}
	}
	return m.applyBatch(ctx, session, b, guids)
}

// find reads the object of a row, or who has the key; if the row's object is
// gone, the one that has its oid now.
func (m *Mirror) find(ctx context.Context, key identity.Key, known *identity.Common) (o directory.Object, s Session, err error) {
	keys := []identity.Key{key}
	if known != nil {
		keys = keys[:0]
		if !known.ObjectGUID.IsZero() {
			keys = append(keys, identity.Key{Kind: identity.ByObjectGUID, GUID: known.ObjectGUID})
		}
		if !known.OID.IsZero() {
			keys = append(keys, identity.Key{Kind: identity.ByOID, GUID: known.OID})
		}
	}
	err = fault.New(fault.NotFound, "the directory has no such user or group")
	for attempt := 0; attempt < 2; attempt++ {
		var failed error
		if s, failed = m.session(ctx); failed != nil {
			return o, nil, failed
		}
		first := s
		for _, k := range keys {
			if k.Kind == identity.ByUID || k.Kind == identity.ByGID || k.Kind == identity.ByRow {
				continue // the directory knows no such key
			}
			o, s, err = m.readOne(ctx, s, k)
			if err == nil && k.Kind == identity.ByOID && !o.UnderSyncedOU {
				err = fault.New(fault.NotFound, "the directory has no such user or group")
			}
			if !fault.Is(err, fault.NotFound) {
				break
			}
		}
		if err == nil && s != first && (known == nil || known.ObjectGUID != o.ObjectGUID) {
			m.noteElsewhere(o.ObjectGUID)
		}
		if !fault.Is(err, fault.Unreachable) || ctx.Err() != nil {
			break // else: a connection kept from before was dead
		}
	}
	return o, s, err
}

// applyOne writes one object.
func (m *Mirror) applyOne(ctx context.Context, session Session, o object, known *identity.Common) error {
	b := newBatch(false, m.cfg.Now())
	b.add(o)
	if known != nil && known.ObjectGUID != o.ObjectGUID {
		b.dead[known.ObjectGUID] = struct{}{} // find has asked
	}
	return m.applyBatch(ctx, session, b, nil)
}

// applyBatch writes a few objects, and has those of asked go that are dead.
func (m *Mirror) applyBatch(ctx context.Context, session Session, b *batch, asked []identity.GUID) error {
	for round := 1; ; round++ {
		var questions []identity.GUID
		b.order()
		err := m.cfg.Store.Update(ctx, func(tx *store.Tx) error {
			plan, err := makePlan(tx, b)
			if err != nil {
				if errors.Is(err, errAsk) {
					questions = plan.questions()
				}
				return err
			}
			if err := plan.apply(tx); err != nil {
				return err
			}
			if err := bury(tx, b, asked); err != nil {
				return err
			}
			m.noteFresh(b, plan)
			return nil
		})
		if !errors.Is(err, errAsk) || round == rounds {
			return err
		}
		for _, g := range questions {
			if err := m.askOne(ctx, session, b, g); err != nil {
				return err
			}
		}
	}
}

// bury retires the rows of those objects that are dead. Of one that was missed once
// the sweeps decide: the DC may have taken over a moment ago.
func bury(tx *store.Tx, b *batch, guids []identity.GUID) error {
	for _, g := range guids {
		if _, dead := b.dead[g]; !dead {
			continue
		}
		r, err := tx.FindObject(g)
		if err != nil {
			return err
		}
		if r == nil || r.Gone || r.Missed > 0 && r.Missed < patience {
			continue
		}
		if err := tx.Retire(r.Common().Row); err != nil {
			return err
		}
	}
	return nil
}

// noteFresh tells the pass that may be running what it knows less about now.
func (m *Mirror) noteFresh(b *batch, p *plan) {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.fresh == nil {
		return
	}
	for i := range b.objects {
		m.fresh.objects[b.objects[i].ObjectGUID] = struct{}{}
		if oid := b.objects[i].oid(); !oid.IsZero() {
			m.fresh.oids[oid] = struct{}{}
		}
		if p.rows[i].ok {
			m.fresh.rows[p.rows[i].id] = struct{}{}
		}
	}
}

// missing marks a row whose object the directory does not have any more; the
// next sweep has it go.
func (m *Mirror) missing(ctx context.Context, c *identity.Common) error {
	return m.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		r, err := tx.Load(c.Row)
		if err != nil || r == nil || r.Gone || r.Common().ObjectGUID != c.ObjectGUID {
			return err
		}
		r.Common().State |= identity.Missing
		return tx.Put(r)
	})
}

// difference is what the mirror and the DC do not agree about in somebody's
// groups.
type difference struct {
	surplus []identity.GUID // the mirror has them and the DC does not
	lacking bool            // the other way round
}

func (d difference) any() bool { return d.lacking || len(d.surplus) > 0 }

// compareGroups returns the row of an object, and how the groups that the DC
// counts for it differ from those of the mirror. Groups that the mirror does not
// have, or that are no security groups, do not count.
func (m *Mirror) compareGroups(ctx context.Context, guid identity.GUID, t tokenGroups) (e store.Entry, differ difference, err error) {
	err = m.cfg.Store.View(ctx, func(v *store.View) (err error) {
		if e, err = v.Get(identity.Key{Kind: identity.ByObjectGUID, GUID: guid}, 0); err != nil {
			return err
		}
		if e.User == nil || t.err != nil || t.sids == nil {
			return nil
		}
		var want []identity.RowID
		for _, sid := range t.sids {
			g, err := v.Get(identity.Key{Kind: identity.BySID, SID: sid}, identity.KindGroup)
			if err != nil || g.Group.SID != sid {
				continue
			}
			want = append(want, g.Group.Row)
		}
		slices.Sort(want)
		shared := 0
		for _, id := range v.GroupsOf(e.User.Row) {
			g, ok := v.Row(id)
			if !ok || g.Group == nil || !g.Group.Security {
				continue
			}
			if _, found := slices.BinarySearch(want, id); found {
				shared++
			} else {
				differ.surplus = append(differ.surplus, g.Group.ObjectGUID)
			}
		}
		differ.lacking = shared < len(slices.Compact(want))
		return nil
	})
	if t.err != nil && fault.Is(t.err, fault.Unreachable) && err == nil {
		err = t.err
	}
	return e, differ, err
}
