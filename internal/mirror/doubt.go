// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// sweeping says whether a pass looks for what is not there any more, and why.
type sweeping uint8

const (
	sweepNone sweeping = iota
	sweepHint          // the DC's counter moved by more than was read
	sweepDue           // by the clock, or because it was asked for
)

// hintRest is how many times its own length a sweep rests before the next hint
// is followed: three per cent of the time, where a DC never stops hinting.
const hintRest = 30

// hints says whether something happened on the DC that no pass has read. A
// tombstone is for administrators alone to see, but its USN was counted.
type hints struct {
	unexplained bool
	next        time.Time // a hint is not followed before
}

func (h hints) due(now time.Time) bool { return h.unexplained && !now.Before(h.next) }

// note takes in what a good pass did, which ended now.
func (h *hints) note(p *pass, full bool, now time.Time) {
	switch {
	case full || p.sweeping != sweepNone:
		h.unexplained = false
		h.rest(p, now, 0)
	case p.missedUSNs:
		h.unexplained = true
	}
}

// rest puts the next hint off for as long as the pass that ended now has earned,
// a failed one too: what changed on a DC that cannot be swept is read all the
// same.
func (h *hints) rest(p *pass, now time.Time, least time.Duration) {
	h.next = now.Add(max(least, hintRest*now.Sub(p.began)))
}

// readIDs reads the ids of all objects.
func (p *pass) readIDs(ctx context.Context, session Session, b *batch) error {
	p.progress.Stage = StageSweep
	p.tell(p.progress)
	ids := make(map[identity.GUID]struct{}, p.at.Objects)
	err := p.stream(ctx, func(ctx context.Context, alive func()) error {
		_, err := session.ReadIDs(ctx, func(id directory.ID) error {
			alive()
			ids[id.ObjectGUID] = struct{}{}
			return nil
		})
		return err
	})
	if err == nil && len(ids) == 0 {
		err = fault.New(fault.Denied, "the domain controller shows no users and groups")
	}
	if err != nil {
		return fault.Wrap(fault.Unknown, "look for what was deleted", err)
	}
	b.ids = ids
	return nil
}

// maxAsked bounds the objects that one sweep asks for one by one, of each sort.
const maxAsked = 1000

// lookAgain asks for single objects that a sweep or a full pass raises doubts
// about: those that were not seen though this DC had them (its word about each
// is as good as a second sweep), those that are there and that no change told
// of, and those that were set aside and whose counterpart is gone. Too many of
// a sort are left to the sweeps to come.
func (p *pass) lookAgain(ctx context.Context, session Session, b *batch) error {
	if !b.full && b.ids == nil {
		return nil
	}
	unseen, untold, aside, err := p.doubts(ctx, b)
	if err != nil {
		return err
	}
	if unseen = p.m.hadHere(b, unseen); !b.same { // another DC may not have heard of them yet
		unseen = nil
	}
	for _, guids := range [][]identity.GUID{unseen, untold, aside} {
		if len(guids) > maxAsked {
			continue
		}
		if err := p.ask(ctx, session, b, guids); err != nil {
			return err
		}
	}
	return nil
}

// noteElsewhere notes that another DC than the one of the passes told of an object
// that the mirror did not have.
func (m *Mirror) noteElsewhere(guid identity.GUID) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.elsewhere[guid] = struct{}{}
}

// hadHere returns those of unseen that the DC of the passes is known to have had,
// and forgets who has arrived there.
func (m *Mirror) hadHere(b *batch, unseen []identity.GUID) []identity.GUID {
	m.lock.Lock()
	defer m.lock.Unlock()
	maps.DeleteFunc(m.elsewhere, func(g identity.GUID, _ struct{}) bool { return b.seen(g) })
	return slices.DeleteFunc(unseen, func(g identity.GUID) bool {
		_, elsewhere := m.elsewhere[g]
		return elsewhere
	})
}

func (p *pass) doubts(ctx context.Context, b *batch) (unseen, untold, aside []identity.GUID, err error) {
	strangers := maps.Clone(b.ids)
	for guid := range b.index {
		delete(strangers, guid)
	}
	counterpart := make(map[identity.GUID]bool)
	live := make(map[identity.GUID][]identity.GUID)
	err = p.m.cfg.Store.View(ctx, func(v *store.View) error {
		return v.Each(0, func(e store.Entry) error {
			c := e.Common()
			delete(strangers, c.ObjectGUID)
			seen := b.seen(c.ObjectGUID)
			if !seen && !c.ObjectGUID.IsZero() {
				unseen = append(unseen, c.ObjectGUID)
			}
			if c.State.Has(identity.Conflicted) && !b.full {
				if seen {
					live[c.OID] = append(live[c.OID], c.ObjectGUID)
				} else {
					counterpart[c.OID] = true
				}
			}
			return nil
		})
	})
	for oid := range counterpart {
		aside = append(aside, live[oid]...)
	}
	return unseen, slices.Collect(maps.Keys(strangers)), aside, err
}
