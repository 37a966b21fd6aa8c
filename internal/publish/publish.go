// SPDX-License-Identifier: Apache-2.0

// Package publish is the half of publishing that the worker does: it decides how
// people and groups look to the machine and which of them it sees (Policy),
// builds the snapshot from the store's rows, and hands it over as a sealed memfd
// whenever they have changed. Root's half is package install, which believes
// nothing that comes from here.
//
// Names, numbers and memberships are the store's; this package never decides
// one. What it leaves out of the names still counts: a group that is not
// published keeps its gid in the lists of its members.
package publish

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// Rows is one consistent look at the store.
type Rows interface {
	// Complete reports whether every row of the domain has been seen.
	Complete() bool
	// Users and Groups call fn for every row; an error of fn ends them.
	Users(fn func(*identity.User) error) error
	Groups(fn func(*identity.Group) error) error
	// GroupsOf returns all groups of a user, through nested groups too.
	GroupsOf(user identity.RowID) []identity.RowID
	// MembersOf returns all users in a group, through nested groups too.
	MembersOf(group identity.RowID) []identity.RowID
	// DirectMembers returns the users and groups that a group lists.
	DirectMembers(group identity.RowID) []identity.RowID
	// Group finds a group by name or SID; fault.NotFound.
	Group(key identity.Key) (*identity.Group, error)
}

// Input is what a snapshot is built of besides the rows.
type Input struct {
	Domain     identity.Domain
	Policy     *Policy
	Ranges     []snapshot.Range
	Generation uint64
}

// Report says what became of the rows.
type Report struct {
	Users, Groups int // published
	Hidden        int // of them, left out of enumeration
	Filtered      int // left out by the policy
	Nameless      int // rows that have no name or no number
	// Refused are rows that no snapshot may carry, and why: a fault of ours, for
	// the store should have given them no such name or number.
	Refused []error
	// Ambiguous counts aliases that find nobody because two rows claim them.
	Ambiguous int
	// Unknown are the groups named in the policy that do not exist.
	Unknown []string
}

// Build lays out a snapshot. The image is complete only if the rows are. A row
// that no snapshot may carry is left out and reported. Errors of the rows come
// back as they are; rows that contradict each other are fault.Conflict.
func Build(ctx context.Context, rows Rows, in Input) (*snapshot.Image, *Look, *Report, error) {
	o := snapshot.Options{Generation: in.Generation, Complete: rows.Complete(), Ranges: in.Ranges}
	if _, err := rand.Read(o.Seed[:]); err != nil {
		return nil, nil, nil, fault.Wrap(fault.Internal, "draw the seed of a snapshot", err)
	}
	b, err := snapshot.NewBuilder(o)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("publish: %w", err)
	}
	report := &Report{}
	look, scope, err := in.Policy.bind(rows, in.Domain, report)
	if err != nil {
		return nil, nil, nil, err
	}
	gidOf := map[identity.RowID]identity.GID{}
	err = rows.Groups(func(g *identity.Group) error {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Unreachable, "build the snapshot", err)
		}
		if g.GID != 0 {
			gidOf[g.Row] = g.GID
		}
		switch {
		case g.Name == "" || g.GID == 0:
			report.Nameless++
		case !scope.groups.admits(&g.Common):
			report.Filtered++
		default:
			err := b.AddGroup(snapshot.Group{Name: g.Name, GID: g.GID, Aliases: g.Aliases, Hidden: !in.Policy.Enumerate})
			report.add(&report.Groups, !in.Policy.Enumerate, err)
		}
		return nil
	})
	if err != nil {
		return nil, nil, nil, err
	}
	var gids []identity.GID
	err = rows.Users(func(u *identity.User) error {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Unreachable, "build the snapshot", err)
		}
		switch {
		case u.Name == "" || u.UID == 0 || u.GID == 0:
			report.Nameless++
		case !scope.users.admits(&u.Common):
			report.Filtered++
		default:
			look.Fill(u)
			hidden := !in.Policy.Enumerate || u.State&(identity.Disabled|identity.Guest) != 0
			gids = gids[:0]
			for _, g := range rows.GroupsOf(u.Row) {
				if gid, ok := gidOf[g]; ok {
					gids = append(gids, gid)
				}
			}
			err := b.AddUser(snapshot.User{Name: u.Name, UID: u.UID, GID: u.GID, Gecos: u.Gecos, Dir: u.Home, Shell: u.Shell,
				Aliases: u.Aliases, Groups: gids, Hidden: hidden})
			report.add(&report.Users, hidden, err)
		}
		return nil
	})
	if err != nil {
		return nil, nil, nil, err
	}
	im, err := b.Build()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("publish: %w", err)
	}
	report.Ambiguous = im.Ambiguous
	return im, look, report, nil
}

func (r *Report) add(n *int, hidden bool, err error) {
	if err != nil {
		r.Refused = append(r.Refused, err)
		return
	}
	*n++
	if hidden {
		r.Hidden++
	}
}

// Seal writes an image into a memfd that nobody can change any more, the worker
// included, and returns the digest of its content. The caller closes the file.
func Seal(im *snapshot.Image) (f *os.File, digest [32]byte, err error) {
	fd, err := unix.MemfdCreate("latchkey-identities", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, digest, fault.Wrap(fault.Internal, "make a memfd", err)
	}
	f = os.NewFile(uintptr(fd), "latchkey-identities")
	defer func() {
		if err != nil {
			_ = f.Close()
			f = nil
		}
	}()
	if err := unix.Ftruncate(fd, int64(im.Size())); err != nil {
		return f, digest, fault.Wrap(fault.Exhausted, "make room for the snapshot", err)
	}
	data, err := unix.Mmap(fd, 0, im.Size(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return f, digest, fault.Wrap(fault.Exhausted, "map the snapshot", err)
	}
	digest = im.Encode(data)
	if err := unix.Munmap(data); err != nil {
		return f, digest, fault.Wrap(fault.Internal, "unmap the snapshot", err)
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	return f, digest, fault.Wrap(fault.Internal, "seal the snapshot", err)
}
