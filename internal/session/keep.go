// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// The notes of the store that are ours: one for each session and each code under
// the hash of its secret, one for each answer that was used, and the key that
// seals what browsers keep.
const (
	topic      = "session"
	keySeal    = "key"
	keySession = "s:"
	keyCode    = "c:"
	keySpent   = "p:"
)

func (h hash) note(kind string) string { return kind + base64.RawURLEncoding.EncodeToString(h[:]) }

func hashNote(text string) (h hash, ok bool) {
	b, err := decode(text)
	if err != nil || len(b) != len(h) {
		return h, false
	}
	return hash(b), true
}

// record is a session as it is written down.
type record struct {
	ID       string    `json:"id"`
	Who      Who       `json:"who"`
	App      string    `json:"app,omitempty"`
	How      string    `json:"how"`
	Created  time.Time `json:"created"`
	Used     time.Time `json:"used"`
	Ends     time.Time `json:"ends"`
	Remote   string    `json:"remote,omitempty"`
	Agent    string    `json:"agent,omitempty"`
	Audit    string    `json:"audit,omitempty"`
	Shown    string    `json:"shown,omitempty"`
	From     string    `json:"from,omitempty"` // id of the session that an app's came of
	Provider string    `json:"sid,omitempty"`  // of the tenant's session
	Issuer   string    `json:"issuer,omitempty"`
}

func (r *record) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and times only
	}
	return b
}

// restore reads the notes. What is too old, or cannot be read, is dropped.
func (s *Sessions) restore(ctx context.Context) error {
	now := s.c.Now()
	set := s.settings()
	drop := map[string][]byte{}
	var key []byte
	err := s.c.Store.Notes(ctx, topic, func(name string, value []byte) bool {
		good := false
		switch {
		case name == keySeal:
			key, good = append([]byte(nil), value...), true
		case len(name) > 2:
			h, ok := hashNote(name[2:])
			if !ok {
				break
			}
			switch name[:2] {
			case keySession:
				var r record
				if json.Unmarshal(value, &r) == nil && now.Before(r.Ends) && now.Before(r.Used.Add(set.Idle)) && (r.Who.Row != 0 || r.Who.Local != nil) {
					s.add(newLive(h, r))
					good = true
				}
			case keyCode:
				var c code
				if json.Unmarshal(value, &c) == nil && now.Before(c.Until) {
					s.codes.by[h] = c
					good = true
				}
			case keySpent:
				var until time.Time
				if json.Unmarshal(value, &until) == nil && now.Before(until) {
					s.spent.until[h] = until
					good = true
				}
			}
		}
		if !good {
			drop[name] = nil
		}
		return true
	})
	if err != nil {
		return err
	}
	if len(key) != keyLength {
		key = make([]byte, keyLength)
		_, _ = rand.Read(key)
		drop[keySeal] = key
	}
	s.sealer = newSealer(key)
	if len(drop) == 0 {
		return nil
	}
	return s.c.Store.SetNotes(ctx, topic, drop)
}

// Run ends the sessions of people who are no longer let in, as soon as the
// mirror knows, and forgets what is over, until ctx ends.
func (s *Sessions) Run(ctx context.Context) {
	wake, cancel := s.c.Store.Subscribe()
	defer cancel()
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	at := s.c.Store.Position()
	s.lookAtAll(ctx)
	for {
		select {
		case <-ctx.Done():
			s.flush(context.WithoutCancel(ctx))
			return
		case <-wake:
			rows, next, all := s.changed(ctx, at)
			at = next
			if all {
				s.lookAtAll(ctx)
			} else {
				s.lookAt(ctx, rows)
			}
		case <-tick.C:
			s.flush(ctx)
			s.Sweep(ctx)
		}
	}
}

// changed returns the rows that changed after a position; all where the log does
// not tell.
func (s *Sessions) changed(ctx context.Context, after position) (rows []identity.RowID, next position, all bool) {
	for next = after; ; {
		changes, err := s.c.Store.Changes(ctx, next, 1000)
		if err != nil {
			return nil, s.c.Store.Position(), true
		}
		for _, c := range changes {
			if c.Kind == identity.KindUser {
				rows = append(rows, c.Row)
			}
			next.Seq = c.Seq
		}
		if len(changes) < 1000 {
			return rows, next, false
		}
	}
}

// lookAt looks at the sessions of rows again: who may not in any longer loses
// them.
func (s *Sessions) lookAt(ctx context.Context, rows []identity.RowID) {
	for _, row := range rows {
		for _, l := range s.of(whoKey{row: row}) {
			_, _ = s.person(ctx, l, true)
		}
	}
}

func (s *Sessions) lookAtAll(ctx context.Context) {
	s.mu.RLock()
	rows := make([]identity.RowID, 0, len(s.byRow))
	for k := range s.byRow {
		if k.row != 0 {
			rows = append(rows, k.row)
		}
	}
	s.mu.RUnlock()
	s.lookAt(ctx, rows)
}

// flush writes down when sessions were used last.
func (s *Sessions) flush(ctx context.Context) {
	notes := map[string][]byte{}
	var lives []*live
	s.mu.RLock()
	for _, l := range s.byKey {
		if used := l.used.Load(); used != l.kept.Load() {
			r := l.r
			r.Used = time.Unix(0, used)
			l.kept.Store(used)
			notes[l.key.note(keySession)] = r.encode()
			lives = append(lives, l)
		}
	}
	s.mu.RUnlock()
	if len(notes) == 0 {
		return
	}
	s.writing.Lock()
	for _, l := range lives {
		if l.over.Load() { // ended meanwhile: it must not come back
			delete(notes, l.key.note(keySession))
		}
	}
	err := s.c.Store.SetNotes(ctx, topic, notes)
	s.writing.Unlock()
	if err != nil {
		for _, l := range lives {
			l.kept.Store(0)
		}
		s.c.Log.Warn("when sessions were used last cannot be written down", "error", err)
	}
}

// Sweep forgets sessions, codes and used answers whose time is over.
func (s *Sessions) Sweep(ctx context.Context) {
	now, idle := s.c.Now(), s.settings().Idle
	var gone []*live
	s.mu.RLock()
	for _, l := range s.byKey {
		if l.late(now, idle) {
			gone = append(gone, l)
		}
	}
	s.mu.RUnlock()
	if err := s.end(ctx, gone); err != nil {
		s.c.Log.Warn("sessions that are over cannot be removed from the store", "error", err)
	}
	notes := map[string][]byte{}
	for _, h := range s.codes.old(now) {
		notes[h.note(keyCode)] = nil
	}
	s.spent.mu.Lock()
	for h, until := range s.spent.until {
		if !now.Before(until) {
			notes[h.note(keySpent)] = nil
			delete(s.spent.until, h)
		}
	}
	s.spent.mu.Unlock()
	if len(notes) > 0 {
		if err := s.c.Store.SetNotes(ctx, topic, notes); err != nil {
			s.c.Log.Warn("codes that are over cannot be removed from the store", "error", err)
		}
	}
}
