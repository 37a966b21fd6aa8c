// SPDX-License-Identifier: Apache-2.0

// Package memorytest is a resolve.Memory for tests: rows in maps, a log of
// changes as short as a test wants it, failures on demand. It resolves no
// nested groups and decides no names; what a test puts in comes out.
package memorytest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Memory holds rows. The zero value is not usable; see New.
type Memory struct {
	mu       sync.RWMutex
	complete bool
	fail     error
	rows     map[identity.RowID]store.Entry
	members  map[identity.RowID][]identity.RowID // of a group
	log      []store.Change
	keep     int
	at       store.Position
	wakes    map[chan struct{}]bool
	views    int
}

// New returns an empty memory that is complete and keeps a long log.
func New() *Memory {
	return &Memory{complete: true, keep: 1 << 20, rows: map[identity.RowID]store.Entry{},
		members: map[identity.RowID][]identity.RowID{}, at: store.Position{Epoch: 7}, wakes: map[chan struct{}]bool{}}
}

// SetComplete says whether the mirror has ever been complete.
func (m *Memory) SetComplete(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.complete = yes
}

// Fail makes every view fail with err; nil ends that.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// KeepLog keeps the last n changes only.
func (m *Memory) KeepLog(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep = n
	m.trim()
}

// Restart forgets the log and begins another epoch.
func (m *Memory) Restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at, m.log = store.Position{Epoch: m.at.Epoch + 1}, nil
}

// Views returns how many views are open now.
func (m *Memory) Views() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.views
}

// PutUser adds or replaces users, each its own change.
func (m *Memory) PutUser(users ...identity.User) {
	for _, u := range users {
		m.put(store.Entry{User: &u})
	}
}

// PutGroup adds or replaces a group and its effective members.
func (m *Memory) PutGroup(g identity.Group, members ...identity.RowID) {
	m.mu.Lock()
	slices.Sort(members)
	m.members[g.Row] = members
	m.mu.Unlock()
	m.put(store.Entry{Group: &g})
}

func (m *Memory) put(e store.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[e.Common().Row] = e
	m.change(e, false)
}

// Delete removes a row.
func (m *Memory) Delete(row identity.RowID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.rows[row]
	if !ok {
		panic(fmt.Sprintf("memorytest: no row %d", row))
	}
	delete(m.rows, row)
	m.change(e, true)
}

func (m *Memory) change(e store.Entry, deleted bool) {
	c, kind := e.Common(), identity.KindUser
	if e.Group != nil {
		kind = identity.KindGroup
	}
	m.at.Seq++
	m.log = append(m.log, store.Change{Seq: m.at.Seq, Row: c.Row, Kind: kind, Deleted: deleted, Membership: kind == identity.KindGroup,
		SID: c.SID, OID: c.OID, ObjectGUID: c.ObjectGUID, Name: c.Name})
	m.trim()
	for w := range m.wakes {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (m *Memory) trim() { m.log = m.log[max(0, len(m.log)-m.keep):] }

// Position is resolve.Memory's.
func (m *Memory) Position() store.Position {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.at
}

// Changes is resolve.Memory's.
func (m *Memory) Changes(_ context.Context, after store.Position, limit int) ([]store.Change, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if after.Epoch != m.at.Epoch || after.Seq < m.at.Seq-uint64(len(m.log)) {
		return nil, fault.New(fault.NotFound, "the log is too short")
	}
	if after.Seq >= m.at.Seq {
		return nil, nil
	}
	rest := m.log[uint64(len(m.log))-(m.at.Seq-after.Seq):]
	return slices.Clone(rest[:min(limit, len(rest))]), nil
}

// Subscribe is resolve.Memory's.
func (m *Memory) Subscribe() (<-chan struct{}, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := make(chan struct{}, 1)
	m.wakes[w] = true
	return w, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.wakes, w)
	}
}

// Subscribers returns how many have not cancelled.
func (m *Memory) Subscribers() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.wakes)
}

// View is resolve.Memory's. fn sees the rows as they were when it began.
func (m *Memory) View(ctx context.Context, fn func(resolve.View) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.fail != nil {
		defer m.mu.Unlock()
		return m.fail
	}
	m.views++
	v := &view{complete: m.complete, at: m.at, rows: maps.Clone(m.rows), members: maps.Clone(m.members)}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.views--
	}()
	return fn(v)
}

type view struct {
	complete bool
	at       store.Position
	rows     map[identity.RowID]store.Entry
	members  map[identity.RowID][]identity.RowID
}

func (v *view) Complete() bool           { return v.complete }
func (v *view) Position() store.Position { return v.at }

func (v *view) Get(key identity.Key, kind identity.Kind) (store.Entry, error) {
	for _, row := range slices.Sorted(maps.Keys(v.rows)) {
		e := v.rows[row]
		if kind != 0 && (kind == identity.KindUser) != (e.User != nil) {
			continue
		}
		if finds(key, e) {
			return clone(e), nil
		}
	}
	return store.Entry{}, fault.New(fault.NotFound, "no such row")
}

func finds(k identity.Key, e store.Entry) bool {
	c := e.Common()
	switch k.Kind {
	case identity.ByName:
		n := identity.Fold(k.Name)
		return c.Name == n || slices.Contains(c.Aliases, n)
	case identity.ByUID:
		return e.User != nil && uint32(e.User.UID) == k.ID
	case identity.ByGID:
		return e.Group != nil && uint32(e.Group.GID) == k.ID
	case identity.BySID:
		return c.SID == k.SID || slices.Contains(c.PastSIDs, k.SID)
	case identity.ByOID:
		return c.OID == k.GUID
	case identity.ByObjectGUID:
		return c.ObjectGUID == k.GUID
	case identity.ByRow:
		return c.Row == k.Row
	}
	return false
}

func clone(e store.Entry) store.Entry {
	if e.User != nil {
		u := *e.User
		return store.Entry{User: &u}
	}
	g := *e.Group
	return store.Entry{Group: &g}
}

func (v *view) Row(id identity.RowID) (store.Entry, bool) {
	e, ok := v.rows[id]
	if !ok {
		return store.Entry{}, false
	}
	return clone(e), true
}

// List goes by row id; its cursors are decimal row ids.
func (v *view) List(kind identity.Kind, after string, fn func(store.Entry, string) bool) error {
	var from uint64
	if after != "" {
		var err error
		if from, err = strconv.ParseUint(after, 10, 64); err != nil {
			return fault.New(fault.Malformed, "not a cursor")
		}
	}
	for _, row := range slices.Sorted(maps.Keys(v.rows)) {
		e := v.rows[row]
		if uint64(row) <= from || (kind == identity.KindUser) != (e.User != nil) {
			continue
		}
		if !fn(clone(e), strconv.FormatUint(uint64(row), 10)) {
			break
		}
	}
	return nil
}

func (v *view) GroupsOf(user identity.RowID) (groups []identity.RowID) {
	for g, members := range v.members {
		if slices.Contains(members, user) {
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	return groups
}

func (v *view) MembersOf(group identity.RowID) []identity.RowID     { return v.members[group] }
func (v *view) DirectMembers(group identity.RowID) []identity.RowID { return v.members[group] }
func (v *view) MemberCount(group identity.RowID) int                { return len(v.members[group]) }
func (v *view) IsMember(user, group identity.RowID) bool {
	return slices.Contains(v.members[group], user)
}

// IDOfSID looks at the SIDs that rows have now, and at no well-known ones.
func (v *view) IDOfSID(sid identity.SID) (uint32, identity.Kind, bool) {
	for _, e := range v.rows {
		if e.Common().SID == sid && !sid.IsZero() {
			if e.User != nil {
				return uint32(e.User.UID), identity.KindUser, true
			}
			return uint32(e.Group.GID), identity.KindGroup, e.Group.GID != 0
		}
	}
	return 0, 0, false
}

// SIDOfID is the reverse.
func (v *view) SIDOfID(id uint32, kind identity.Kind) (identity.SID, bool) {
	for _, e := range v.rows {
		if e.User != nil && kind == identity.KindUser && uint32(e.User.UID) == id ||
			e.Group != nil && kind == identity.KindGroup && uint32(e.Group.GID) == id {
			return e.Common().SID, true
		}
	}
	return identity.SID{}, false
}

var _ resolve.Memory = (*Memory)(nil)
