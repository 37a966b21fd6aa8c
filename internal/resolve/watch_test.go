// SPDX-License-Identifier: Apache-2.0

package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
	"github.com/latchkey-nas/latchkey/internal/store"
)

func watch(t *testing.T, r *resolve.Resolver, w resolve.Watch) *resolve.Watcher {
	t.Helper()
	if w.Heartbeat == 0 {
		w.Heartbeat = time.Hour
	}
	watcher, err := r.Watch(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watcher.Close)
	return watcher
}

func next(t *testing.T, w *resolve.Watcher) resolve.Event {
	t.Helper()
	e, err := w.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func words(e resolve.Event) string {
	kind := map[resolve.EventKind]string{resolve.Upsert: "upsert", resolve.Delete: "delete", resolve.Synced: "synced", resolve.Heartbeat: "heartbeat"}[e.Kind]
	if c := e.Entry.Common(); c != nil {
		return fmt.Sprintf("%s %s", kind, c.Name)
	}
	return kind
}

func expect(t *testing.T, w *resolve.Watcher, want ...string) (last resolve.Event) {
	t.Helper()
	for _, text := range want {
		last = next(t, w)
		if got := words(last); got != text {
			t.Fatalf("event %q, want %q", got, text)
		}
	}
	return last
}

func TestWatchTellsWhatThereIsThenWhatChanges(t *testing.T) {
	m, r := house(t)
	w := watch(t, r, resolve.Watch{})
	expect(t, w, "upsert alice", "upsert bob", "upsert staff", "upsert board", "synced")
	m.PutUser(person(3, "carol", "Carol"))
	m.PutGroup(group(51, "board"), 1, 3)
	m.Delete(2)
	if e := expect(t, w, "upsert carol"); e.Entry.User.Home != "/home/carol" || e.MembershipChanged {
		t.Errorf("carol is shown as %+v", e)
	}
	if e := expect(t, w, "upsert board"); !e.MembershipChanged || e.Entry.Members != 2 {
		t.Errorf("board is shown as %+v", e)
	}
	e := expect(t, w, "delete bob")
	if u := e.Entry.User; u.Row != 2 || u.SID != domainSID.WithRID(1002) || u.OID != guid(2) || u.ObjectGUID != guid(102) {
		t.Errorf("bob's keys are %+v", u)
	}
}

func TestWatchOneKind(t *testing.T) {
	m, r := house(t)
	users, groups := watch(t, r, resolve.Watch{Users: true}), watch(t, r, resolve.Watch{Groups: true})
	expect(t, users, "upsert alice", "upsert bob", "synced")
	expect(t, groups, "upsert staff", "upsert board", "synced")
	for range 200 { // more than a batch of what this one does not want
		m.PutUser(person(1, "alice", "Alice"))
	}
	m.PutGroup(group(52, "new"))
	expect(t, groups, "upsert new")
}

// Every event's position goes on right after it: in the snapshot, between
// changes, at the end.
func TestWatchResumesAnywhere(t *testing.T) {
	m, r := house(t)
	first := watch(t, r, resolve.Watch{})
	var events []resolve.Event
	for range 5 {
		events = append(events, next(t, first))
	}
	m.PutUser(person(3, "carol", "Carol"))
	m.Delete(2)
	events = append(events, next(t, first), next(t, first))
	all := []string{"upsert alice", "upsert bob", "upsert staff", "upsert board", "synced", "upsert carol", "delete bob"}
	for i, e := range events {
		w := watch(t, r, resolve.Watch{Resume: &e.At})
		want := append([]string(nil), all[i+1:]...)
		switch {
		case i < 4: // still in the snapshot: bob is gone from it, and carol may come in it and as a change
			got := map[string]bool{}
			for {
				e := next(t, w)
				if e.Kind == resolve.Synced {
					break
				}
				got[words(e)] = true
			}
			for _, text := range want {
				if text != "upsert bob" && text != "synced" && !got[text] {
					t.Errorf("resumed after %q: no %q in %v", all[i], text, got)
				}
			}
		case i == 4:
			expect(t, w, append(want, "synced")...)
		default:
			expect(t, w, append(want, "synced")...)
		}
	}
}

func TestWatchTooOld(t *testing.T) {
	m, r := house(t)
	w := watch(t, r, resolve.Watch{})
	at := expect(t, w, "upsert alice", "upsert bob", "upsert staff", "upsert board", "synced").At
	m.KeepLog(3)
	for n := range 4 {
		m.PutUser(person(10+n, fmt.Sprintf("n%d", n), ""))
	}
	if _, err := w.Next(ctx); !errors.Is(err, resolve.ErrTooOld) {
		t.Errorf("a slow reader: %v, want ErrTooOld", err)
	}
	for name, p := range map[string]resolve.Position{"old": at, "another file's": {Log: store.Position{Epoch: 99, Seq: 1}}, "of the future": {Log: store.Position{Epoch: 7, Seq: 1000}}} {
		if _, err := r.Watch(ctx, resolve.Watch{Resume: &p, Heartbeat: time.Hour}); !errors.Is(err, resolve.ErrTooOld) || !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v, want ErrTooOld", name, err)
		}
	}
	if n := m.Subscribers(); n != 1 {
		t.Errorf("%d subscriptions are left, want the one of the open watcher", n)
	}
}

func TestWatchRefusesACursorOfNobody(t *testing.T) {
	_, r := house(t)
	p := next(t, watch(t, r, resolve.Watch{})).At
	p.Cursor = "x"
	if _, err := watch(t, r, resolve.Watch{Resume: &p}).Next(ctx); !fault.Is(err, fault.Malformed) {
		t.Errorf("Next = %v, want Malformed", err)
	}
}

func TestWatchHoldsNoViewWhileItWaits(t *testing.T) {
	m, r := house(t)
	w := watch(t, r, resolve.Watch{})
	for range 5 {
		next(t, w)
		if n := m.Views(); n != 0 {
			t.Fatalf("%d views are open between events", n)
		}
	}
}

func TestWatchHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := house(t)
		w := watch(t, r, resolve.Watch{Heartbeat: 30 * time.Second})
		expect(t, w, "upsert alice", "upsert bob", "upsert staff", "upsert board")
		at := expect(t, w, "synced").At
		began := time.Now()
		if e := expect(t, w, "heartbeat"); e.At != at {
			t.Errorf("a heartbeat moved the position from %+v to %+v", at, e.At)
		}
		if got := time.Since(began); got != 30*time.Second {
			t.Errorf("the first heartbeat came after %v, want 30 s", got)
		}
		go func() {
			time.Sleep(10 * time.Second)
			m.PutUser(person(3, "carol", ""))
		}()
		expect(t, w, "upsert carol", "heartbeat")
		if got := time.Since(began); got != 70*time.Second {
			t.Errorf("the second heartbeat came after %v, want 70 s", got)
		}
		over, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := w.Next(over); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next = %v, want the context's error", err)
		}
	})
}

// Whatever happens while a snapshot is read in pieces, a reader who follows the
// events ends up with the rows as they are.
func TestWatchConverges(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		m := memorytest.New()
		r := resolve.New(m, resolve.Presentation{})
		change := func() {
			row := 1 + rnd.IntN(300)
			if _, err := r.User(ctx, identity.Key{Kind: identity.ByRow, Row: identity.RowID(row)}); err == nil && rnd.IntN(3) == 0 {
				m.Delete(identity.RowID(row))
				return
			}
			m.PutUser(person(row, fmt.Sprintf("u%d", rnd.IntN(100000)), ""))
		}
		for range 300 {
			change()
		}
		seen := map[identity.RowID]string{}
		w := watch(t, r, resolve.Watch{})
		var at resolve.Position
		for changes := 0; changes < 400 || at.Kind != 0 || at.Log != m.Position(); {
			if caughtUp := at.Kind == 0 && at.Log == m.Position(); changes < 400 && (caughtUp || rnd.IntN(2) == 0) {
				change()
				changes++
			}
			e := next(t, w)
			at = e.At
			switch e.Kind {
			case resolve.Upsert:
				seen[e.Entry.User.Row] = e.Entry.User.Name
			case resolve.Delete:
				delete(seen, e.Entry.User.Row)
			}
			if rnd.IntN(20) == 0 {
				w.Close()
				w = watch(t, r, resolve.Watch{Resume: &at})
			}
		}
		want := map[identity.RowID]string{}
		page, err := r.List(ctx, identity.KindUser, resolve.Query{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			want[e.User.Row] = e.User.Name
		}
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			t.Fatalf("seed %d: the reader has %v, want %v", seed, seen, want)
		}
	}
}
