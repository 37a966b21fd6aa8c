// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// noteAdmins is the topic under which the store has whom a name of [api] admins
// meant when it was first read: who gets the name later is not meant.
const noteAdmins = "admins"

// adminsPause is how long changes of the directory gather before the
// administrators are looked up again.
const adminsPause = 300 * time.Millisecond

// noAdmin are the states of people who administer nothing.
const noAdmin = identity.Disabled | identity.AccountExpired | identity.Conflicted | identity.Guest

// admins are the people of the domain whom [api] admins names.
type admins struct {
	uids    []identity.UID // everybody, members of groups included; ascending
	users   []uint32       // named themselves
	groups  []uint32       // the gids of those named
	unknown []string       // entries that mean nobody
}

// keepAdmins follows the configuration and the directory, until ctx ends: a
// member who leaves the group, or is disabled, is an administrator no more as
// soon as the mirror knows.
func (d *Daemon) keepAdmins(ctx context.Context) {
	wake, cancel := d.store.Subscribe()
	defer cancel()
	for {
		if err := d.lookUpAdmins(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("the administrators of the domain cannot be let in", "error", err, "remedy", fault.Remedy(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-d.adminKick:
			continue
		case <-wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(adminsPause):
		}
	}
}

// wakeAdmins has them looked up again.
func (d *Daemon) wakeAdmins() {
	select {
	case d.adminKick <- struct{}{}:
	default:
	}
}

// lookUpAdmins finds everybody and makes it count: for the policy of the doors,
// and, by the monitor, for the socket.
func (d *Daemon) lookUpAdmins(ctx context.Context) error {
	names := d.settings.now().API.Admins
	before := d.admins.Load()
	next := &admins{}
	if _, err := d.machine(ctx); err == nil && (len(names) > 0 || before != nil) {
		if err := d.findAdmins(ctx, names, next); err != nil {
			return err
		}
	}
	for _, ids := range []*[]uint32{&next.users, &next.groups} {
		slices.Sort(*ids)
		*ids = slices.Compact(*ids)
	}
	slices.Sort(next.uids)
	next.uids = slices.Compact(next.uids)
	d.admins.Store(next)
	d.policy.Set(d.members())
	if before != nil && slices.Equal(before.users, next.users) && slices.Equal(before.groups, next.groups) && d.admitted.Load() {
		return nil
	}
	err := d.opt.Monitor.Call(ctx, &control.Admit{UIDs: next.users, GIDs: next.groups}, nil)
	d.admitted.Store(err == nil)
	return err
}

// findAdmins finds whom the entries mean, and remembers it.
func (d *Daemon) findAdmins(ctx context.Context, names []string, next *admins) error {
	known, changed := map[string]identity.RowID{}, map[string][]byte{}
	if err := d.store.Notes(ctx, noteAdmins, func(entry string, row []byte) bool {
		if slices.Contains(names, entry) && len(row) == 8 {
			known[entry] = identity.RowID(binary.BigEndian.Uint64(row))
		} else {
			changed[entry] = nil // taken out and put in again it means who has the name then
		}
		return true
	}); err != nil {
		return err
	}
	if err := d.store.View(ctx, func(v *store.View) error {
		for _, entry := range names {
			row, was := known[entry]
			e, ok := v.Row(row)
			if !was {
				var err error
				if e, ok, err = adminOf(v, entry); err != nil {
					return err
				}
				if ok {
					changed[entry] = binary.BigEndian.AppendUint64(nil, uint64(e.Common().Row))
				}
			}
			next.add(v, entry, e, ok)
		}
		return nil
	}); err != nil || len(changed) == 0 {
		return err
	}
	return d.store.SetNotes(ctx, noteAdmins, changed)
}

// add takes in whom one entry means.
func (a *admins) add(v *store.View, entry string, e store.Entry, ok bool) {
	switch {
	case !ok:
		a.unknown = append(a.unknown, entry)
	case e.User != nil:
		if e.User.UID != 0 && e.User.State&noAdmin == 0 {
			a.users = append(a.users, uint32(e.User.UID))
			a.uids = append(a.uids, e.User.UID)
		}
	default:
		if e.Group.GID == 0 {
			a.unknown = append(a.unknown, entry)
			return
		}
		a.groups = append(a.groups, uint32(e.Group.GID))
		for _, row := range v.MembersOf(e.Group.Row) {
			if m, ok := v.Row(row); ok && m.User != nil && m.User.UID != 0 && m.User.State&noAdmin == 0 {
				a.uids = append(a.uids, m.User.UID)
			}
		}
	}
}

// adminOf returns the row that has the name, or the SID, now.
func adminOf(v *store.View, entry string) (store.Entry, bool, error) {
	text, kind := entry, identity.KindUser
	if name, ok := strings.CutPrefix(entry, "%"); ok {
		text, kind = name, identity.KindGroup
	}
	key, err := identity.ParseKey(text, kind)
	if err != nil {
		return store.Entry{}, false, nil
	}
	if key.Kind == identity.BySID && text == entry {
		kind = 0
	}
	e, err := v.Get(key, kind)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Conflict) || fault.Is(err, fault.Malformed) {
		return store.Entry{}, false, nil
	}
	if err != nil {
		return store.Entry{}, false, err
	}
	return e, true, nil
}

// fillAdmins tells of entries that mean nobody.
func (d *Daemon) fillAdmins(problem func(id, summary, remedy string, since time.Time)) {
	a := d.admins.Load()
	if a == nil {
		return
	}
	for _, entry := range a.unknown {
		problem("admins", fmt.Sprintf("[api] admins names %q, who is nobody of the domain", entry),
			"latchkey user get, latchkey group get: whoever had the name when it was written is gone, or it was never anybody's", time.Time{})
	}
	if len(d.settings.now().API.Admins) > 0 && !d.admitted.Load() {
		problem("admins", "the administrators of the domain cannot reach admin.sock", "see the log of latchkeyd; or add them to the group latchkey-admin", time.Time{})
	}
}
