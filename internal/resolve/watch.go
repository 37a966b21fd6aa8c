// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// ErrTooOld says that the log of changes does not reach back to the position
// that was asked for: start afresh. It is a fault.Conflict.
var ErrTooOld = fault.New(fault.Conflict, "the log of changes does not reach back so far")

// EventKind says what an event tells.
type EventKind uint8

// The kinds of event.
const (
	Upsert    EventKind = iota + 1 // the row as it is now: of the snapshot, new, or changed
	Delete                         // the row is gone; the entry has its keys only
	Synced                         // everything up to the start of the watch was told
	Heartbeat                      // nothing happened
)

// Event is one event of a watch.
type Event struct {
	Kind              EventKind
	Entry             Entry
	MembershipChanged bool
	// At goes on after this event.
	At Position
}

// Position is a place in a watch: in the snapshot while Kind is set, otherwise
// in the log of changes.
type Position struct {
	Log    store.Position
	Kind   identity.Kind // of the rows that the snapshot is at
	Cursor string        // the snapshot goes on after this row
}

// Watch says what to watch.
type Watch struct {
	// Users and Groups choose the kinds; both false is both.
	Users, Groups bool
	// Resume goes on from there. Nil: begin with a snapshot of all rows.
	Resume *Position
	// Heartbeat is how long Next waits at most; not 0.
	Heartbeat time.Duration
}

// batch is how many rows or changes a watcher reads at once. Between batches it
// holds neither a view of the store nor more than these rows.
const batch = 64

// Watcher tells what there is and what changes. It pulls: a slow reader finds
// fewer, newer states, and nothing piles up behind it. Not for concurrent use.
type Watcher struct {
	r      *Resolver
	w      Watch
	at     Position
	synced bool
	ready  []Event
	wake   <-chan struct{}
	cancel func()
}

// Watch begins to watch. The caller closes the watcher. ErrTooOld: the position
// to resume from is out of reach. fault.Unreachable: the mirror was never
// complete.
func (r *Resolver) Watch(ctx context.Context, w Watch) (*Watcher, error) {
	if !w.Users && !w.Groups {
		w.Users, w.Groups = true, true
	}
	watcher := &Watcher{r: r, w: w}
	// Subscribed before the first look, so that no change falls in between.
	watcher.wake, watcher.cancel = r.memory.Subscribe()
	err := r.memory.View(ctx, func(v View) error {
		if !v.Complete() {
			return r.notComplete()
		}
		watcher.at = Position{Log: v.Position(), Kind: identity.KindUser}
		return nil
	})
	if err == nil && w.Resume != nil {
		end := watcher.at.Log
		watcher.at = *w.Resume
		if w.Resume.Log.Epoch != end.Epoch || w.Resume.Log.Seq > end.Seq {
			err = ErrTooOld // of another file, or of a later state than was restored
		} else {
			_, err = watcher.changes(ctx, 1)
		}
	}
	if err != nil {
		watcher.Close()
		return nil, err
	}
	return watcher, nil
}

// Close ends the watch.
func (w *Watcher) Close() { w.cancel() }

// Next waits for the next event. ErrTooOld: the reader was so slow that the log
// went past it. When ctx ends it returns ctx's error.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	var timer *time.Timer
	for len(w.ready) == 0 {
		if err := w.fill(ctx); err != nil {
			return Event{}, err
		}
		if len(w.ready) > 0 {
			break
		}
		if timer == nil {
			timer = time.NewTimer(w.w.Heartbeat)
			defer timer.Stop()
		}
		select {
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-w.wake:
		case <-timer.C:
			return Event{Kind: Heartbeat, At: w.at}, nil
		}
	}
	e := w.ready[0]
	w.ready = w.ready[1:]
	return e, nil
}

func (w *Watcher) fill(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.ready = w.ready[:0:0]
	for w.at.Kind != 0 && len(w.ready) == 0 {
		if err := w.rows(ctx); err != nil {
			return err
		}
	}
	for len(w.ready) == 0 {
		told, err := w.tell(ctx)
		switch {
		case err != nil:
			return err
		case told: // though perhaps of nothing that this watch wants
		case w.synced:
			return nil
		default:
			w.synced = true
			w.ready = append(w.ready, Event{Kind: Synced, At: w.at})
		}
	}
	return nil
}

func (w *Watcher) wants(k identity.Kind) bool {
	return k == identity.KindUser && w.w.Users || k == identity.KindGroup && w.w.Groups
}

// rows reads the next batch of the snapshot. A row that changes, comes or goes
// while the snapshot is under way is told again from the log.
func (w *Watcher) rows(ctx context.Context) error {
	n := 0
	if w.wants(w.at.Kind) {
		err := w.r.memory.View(ctx, func(v View) error {
			return v.List(w.at.Kind, w.at.Cursor, func(e store.Entry, cursor string) bool {
				w.at.Cursor = cursor
				w.ready = append(w.ready, Event{Kind: Upsert, Entry: w.r.show(v, e), At: w.at})
				n++
				return n < batch
			})
		})
		if err != nil {
			return err
		}
	}
	if n == batch {
		return nil
	}
	if w.at.Kind == identity.KindUser {
		w.at.Kind, w.at.Cursor = identity.KindGroup, ""
	} else {
		w.at.Kind, w.at.Cursor = 0, ""
	}
	return nil
}

// tell reads the next batch of changes. told: there were some, of whatever kind.
func (w *Watcher) tell(ctx context.Context) (told bool, err error) {
	changes, err := w.changes(ctx, batch)
	if err != nil || len(changes) == 0 {
		return false, err
	}
	return true, w.r.memory.View(ctx, func(v View) error {
		for _, c := range changes {
			w.at.Log.Seq = c.Seq
			if !w.wants(c.Kind) {
				continue
			}
			event := Event{Kind: Upsert, MembershipChanged: c.Membership, At: w.at}
			e, ok := v.Row(c.Row)
			switch {
			case c.Deleted:
				event.Kind, event.Entry = Delete, tombstone(c)
			case !ok:
				continue // deleted since: that change is still to come
			default:
				event.Entry = w.r.show(v, e)
			}
			w.ready = append(w.ready, event)
		}
		return nil
	})
}

func (w *Watcher) changes(ctx context.Context, limit int) ([]store.Change, error) {
	changes, err := w.r.memory.Changes(ctx, w.at.Log, limit)
	if fault.Is(err, fault.NotFound) {
		return nil, ErrTooOld
	}
	return changes, err
}

func tombstone(c store.Change) Entry {
	common := identity.Common{Row: c.Row, SID: c.SID, OID: c.OID, ObjectGUID: c.ObjectGUID, Name: c.Name}
	if c.Kind == identity.KindUser {
		return Entry{User: &identity.User{Common: common}}
	}
	return Entry{Group: &identity.Group{Common: common}}
}
