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
		if _, err := m.syncNow(ctx, Request{}, false, nil); err != nil {
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
	go func() {
		if kept.kind() != identity.KindUser {
			tokens <- tokenGroups{}
			return
		}
		sids, err := session.TokenGroups(ctx, "<GUID="+o.ObjectGUID.String()+">")
		tokens <- tokenGroups{sids, err}
	}()
	if err := m.applyOne(ctx, session, kept, known.Common()); err != nil {
		return store.Entry{}, err
	}
	now, same, err := m.compareGroups(ctx, o.ObjectGUID, <-tokens)
	if err != nil || same {
		return now, err
	}
	// A group was changed: read the groups that were. Afterwards both agree, or
	// the DC counts something that the mirror does not know, as groups outside
	// the domain.
	if _, err := m.syncNow(ctx, Request{}, false, nil); err != nil {
		return store.Entry{}, err
	}
	now, _, err = m.compareGroups(ctx, o.ObjectGUID, tokenGroups{})
	return now, err
}

type tokenGroups struct {
	sids []identity.SID
	err  error
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
		if s, failed = within(ctx, m.cfg.AnswerTimeout, m.cfg.Directory.Session); failed != nil {
			return o, nil, failed
		}
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

// missing marks a row whose object the directory does not have any more. It is
// the first of the two misses.
func (m *Mirror) missing(ctx context.Context, c *identity.Common) error {
	return m.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		r, err := tx.Load(c.Row)
		if err != nil || r == nil || r.Gone || r.Missed > 0 || r.Common().ObjectGUID != c.ObjectGUID {
			return err
		}
		r.Missed = 1
		r.Common().State |= identity.Missing
		return tx.Put(r)
	})
}

// compareGroups returns the row of an object, and whether the groups that the
// DC counts for it are those of the mirror. Groups that the mirror does not
// have, or that are no security groups, do not count.
func (m *Mirror) compareGroups(ctx context.Context, guid identity.GUID, t tokenGroups) (e store.Entry, same bool, err error) {
	err = m.cfg.Store.View(ctx, func(v *store.View) (err error) {
		if e, err = v.Get(identity.Key{Kind: identity.ByObjectGUID, GUID: guid}, 0); err != nil {
			return err
		}
		same = true
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
		have := slices.DeleteFunc(v.GroupsOf(e.User.Row), func(id identity.RowID) bool {
			g, ok := v.Row(id)
			return !ok || g.Group == nil || !g.Group.Security
		})
		same = slices.Equal(slices.Compact(want), have)
		return nil
	})
	if t.err != nil && fault.Is(t.err, fault.Unreachable) && err == nil {
		err = t.err
	}
	return e, same, err
}
