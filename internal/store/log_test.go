// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

func changes(t *testing.T, s *Store, after Position) []Change {
	t.Helper()
	c, err := s.Changes(context.Background(), after, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLogTellsWhatChanged(t *testing.T) {
	s := newStore(t)
	u, g := people(t, s, 2, 2)
	wake, cancel := s.Subscribe()
	at := s.Position()
	if got := changes(t, s, at); len(got) != 0 {
		t.Errorf("nothing newer, but %v", got)
	}

	u[0].User.DisplayName = "Someone Else"
	put(t, s, u[0])
	select {
	case <-wake:
	default:
		t.Error("nobody was woken")
	}
	if got := changes(t, s, at); len(got) != 1 || got[0] != (Change{Seq: at.Seq + 1, Row: row(u[0]), Kind: identity.KindUser}) {
		t.Errorf("changes %+v", got)
	}
	at = s.Position()
	put(t, s, u[0]) // nothing new
	if s.Position() != at {
		t.Error("a row put back as it was is in the log")
	}
	setMembers(t, s, g[0], u[0], g[1])
	got := changes(t, s, at)
	if len(got) != 2 || got[0].Row != row(g[0]) || got[0].Kind != identity.KindGroup || !got[0].Membership || got[1].Row != row(u[0]) || !got[1].Membership {
		t.Errorf("a member came: %+v", got)
	}
	at = s.Position()
	was := load(t, s, row(u[0])).User
	update(t, s, func(tx *Tx) error { return tx.Retire(row(u[0])) })
	for _, c := range changes(t, s, at) {
		if c.Row != row(u[0]) {
			continue
		}
		if !c.Deleted || c.SID != was.SID || c.OID != was.OID || c.ObjectGUID != was.ObjectGUID || c.Name != was.Name {
			t.Errorf("a row went: %+v", c)
		}
	}
	<-wake
	cancel()
	put(t, s, u[0])
	select {
	case <-wake:
		t.Error("woken after the end")
	default:
	}
}

func TestLogIsBounded(t *testing.T) {
	s := newStore(t)
	start := s.Position()
	u, _ := people(t, s, 1, 0)
	for _, after := range []Position{{Epoch: start.Epoch + 1, Seq: start.Seq}, {Epoch: start.Epoch, Seq: s.Position().Seq + 1}} {
		if _, err := s.Changes(context.Background(), after, 1); !fault.Is(err, fault.NotFound) {
			t.Errorf("%+v: %v, want not found", after, err)
		}
	}
	n := 0
	for s.Position().Seq < logKeep+20 {
		update(t, s, func(tx *Tx) error { // many changes at once, as the log counts rows
			for i := range 4000 {
				tx.note(identity.RowID(1000+i), identity.KindUser)
			}
			tx.wrote = true
			return nil
		})
		if n++; n > 100 {
			t.Fatal("the log does not grow")
		}
	}
	if _, err := s.Changes(context.Background(), start, 1); !fault.Is(err, fault.NotFound) {
		t.Errorf("the beginning is still there: %v", err)
	}
	now := s.Position()
	if got := changes(t, s, Position{now.Epoch, now.Seq - 10}); len(got) != 10 || got[9].Seq != now.Seq {
		t.Errorf("the last ten are %d", len(got))
	}
	first, err := s.Changes(context.Background(), Position{now.Epoch, now.Seq - logKeep}, 1)
	if err != nil || len(first) != 1 || first[0].Seq != now.Seq-logKeep+1 {
		t.Errorf("the oldest that is kept: %v, %v", first, err)
	}
	// A transaction larger than the log empties it.
	update(t, s, func(tx *Tx) error {
		for i := range logKeep + 1 {
			tx.note(identity.RowID(1000+i), identity.KindUser)
		}
		tx.wrote = true
		return nil
	})
	if _, err := s.Changes(context.Background(), now, 1); !fault.Is(err, fault.NotFound) {
		t.Errorf("the log was not emptied: %v", err)
	}
	at := s.Position()
	if at.Seq != now.Seq+logKeep+1 || len(changes(t, s, at)) != 0 {
		t.Errorf("the log goes on at %+v", at)
	}
	u[0].User.Surname = "New"
	put(t, s, u[0])
	if got := changes(t, s, at); len(got) != 1 {
		t.Errorf("after it was emptied: %+v", got)
	}
}

func TestPositionSurvivesOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := Open(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, user(1, "ana"))
	at := s.Position()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if s.Position() != at || at.Epoch == 0 || at.Seq == 0 {
		t.Errorf("position %+v, want %+v", s.Position(), at)
	}
}

func FuzzReadChange(f *testing.F) {
	f.Add(appendChange(nil, &Change{Row: 7, Kind: identity.KindUser, Deleted: true, SID: contoso.SID, OID: guid(1, 1), Name: "ana"}))
	f.Add([]byte{0x08})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := readChange(1, b)
		if !ok {
			return
		}
		again, ok := readChange(1, appendChange(nil, &c))
		if !ok || !reflect.DeepEqual(again, c) {
			t.Fatalf("%+v prints back as %+v, %v", c, again, ok)
		}
	})
}
