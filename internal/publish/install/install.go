// SPDX-License-Identifier: Apache-2.0

// Package install is the half of publishing that root does: it takes a snapshot
// that the worker built, believes nothing in it, and puts it where every process
// of the machine reads it.
//
// The directory belongs to root. A snapshot that replaces another one goes
// through these steps:
//
//	check   the worker's memfd: sealed, a snapshot, its ids and names allowed
//	write   a copy to identities.new, and fsync it
//	link    the current file as identities.old, so that it can be found again
//	rename  identities.new over identities, and fsync the directory
//	mark    identities.old as superseded, in the one word that readers look at
//	unlink  identities.old
//	punch   out its content but for the header, a minute later
//
// and nscd, where there is one, is told to forget.
//
// Whenever root's half dies, readers see a right snapshot: the old one up to
// rename, the new one afterwards, and at most a glance later (a few seconds)
// where the old one could not be marked. The next start marks a left-over
// identities.old before anything else. The directory is synced before the mark,
// so that no power failure can bring back a file that is marked.
//
// The package builds nothing, opens no database, and never goes through a
// symbolic link.
package install

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/accounts"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// The files in the directory.
const (
	Name    = "identities"
	oldName = "identities.old"
	newName = "identities.new"
)

// Grace is how long the content of a superseded file is kept for readers that
// are in the middle of it.
const Grace = time.Minute

// maxRetired is how many superseded files are kept open at once, waiting for
// their grace to end; beyond it the oldest is punched out early.
const maxRetired = 64

const liveOffset = int64(unsafe.Offsetof(snapshot.Header{}.Live))

// Options say where to publish and what to demand.
type Options struct {
	Dir    string
	Owner  uint32           // to whom the directory and the files must belong; readers believe root's only
	Ranges []snapshot.Range // ids that a snapshot may hold; none: nothing is published
	// Local returns the folded names of the machine's own accounts and groups;
	// nil reads /etc/passwd and /etc/group.
	Local func() (map[string]struct{}, error)
	Log   *slog.Logger  // nil: slog.Default()
	Grace time.Duration // 0: Grace
	NSCD  string        // where nscd listens, if it runs; empty: where glibc looks
}

// Info describes the snapshot that is published.
type Info struct {
	Generation    uint64
	Digest        string
	Users, Groups int
	Size          int64
}

// stamp tells a file that nobody has touched since from any other: whatever is
// done to a file changes its ctime.
type stamp struct {
	ino  uint64
	size int64
	ctim unix.Timespec
}

func stampOf(st *unix.Stat_t) stamp { return stamp{st.Ino, st.Size, st.Ctim} }

// Installer publishes in one directory. Safe for concurrent use.
type Installer struct {
	opt  Options
	log  *slog.Logger
	dir  *os.File
	step func(name string) // told what has just been done; for tests

	mu      sync.Mutex
	ranges  []snapshot.Range
	current *Info // what is at Name, if we know it to be right
	stamp   stamp // of it
	retired []*retired
}

type retired struct {
	file  *os.File
	size  int64
	timer *time.Timer
}

// Open takes the directory over: it must be there, belong to the owner, and be
// writable by nobody else (fault.Denied). What a dead predecessor left behind is
// put in order.
func Open(o Options) (*Installer, error) { return open(o, nil) }

func open(o Options, step func(string)) (*Installer, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Grace == 0 {
		o.Grace = Grace
	}
	if o.NSCD == "" {
		o.NSCD = nscdSocket
	}
	if o.Local == nil {
		o.Local = func() (map[string]struct{}, error) {
			set, err := accounts.Source{}.Read()
			return set.Names(), err
		}
	}
	if step == nil {
		step = func(string) {}
	}
	fd, err := unix.Open(o.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.WithRemedy(fault.Wrap(fault.Internal, "open the snapshot directory "+o.Dir, err), "make it: install -d -o root -g root -m 0755 "+o.Dir)
	}
	i := &Installer{opt: o, log: o.Log, dir: os.NewFile(uintptr(fd), o.Dir), step: step, ranges: slices.Clone(o.Ranges)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = i.dir.Close()
		return nil, fault.Wrap(fault.Internal, "look at the snapshot directory", err)
	}
	if st.Uid != o.Owner || st.Mode&0o022 != 0 {
		_ = i.dir.Close()
		return nil, &fault.Error{Kind: fault.Denied, Op: "open the snapshot directory " + o.Dir,
			Err:    fmt.Errorf("it belongs to uid %d with mode %04o", st.Uid, st.Mode&0o7777),
			Remedy: "chown root:root and chmod 0755 it; whoever can write there can make up users"}
	}
	i.putInOrder()
	return i, nil
}

// SetRanges says which ids a snapshot may hold from now on. What is published
// stays until the next Install.
func (i *Installer) SetRanges(ranges []snapshot.Range) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ranges = slices.Clone(ranges)
}

// Current returns what is published; false when that is nothing, or nothing
// that we know to be right.
func (i *Installer) Current() (Info, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.inPlace() {
		return Info{}, false
	}
	return *i.current, true
}

// Install publishes the snapshot in a sealed memfd. A file that is none, a
// broken or incomplete snapshot, and ids or ranges that are not allowed are
// fault.Malformed or fault.Denied; the name of a local account is
// fault.Conflict; a full disk is fault.Exhausted. Then what was published stays.
// A snapshot that says what the published one says is not written again.
func (i *Installer) Install(ctx context.Context, f *os.File) error {
	data, err := mapSealed(f)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(data) }()
	local, err := i.opt.Local()
	if err != nil {
		return fault.Wrap(fault.Internal, "publish: read the machine's own accounts", err)
	}

	i.mu.Lock()
	defer i.mu.Unlock()
	info, err := check(data, snapshot.Rules{Ranges: i.ranges, Taken: func(name string) bool {
		_, taken := local[name]
		return taken
	}})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	i.step("checked")
	if i.inPlace() && i.current.Digest == info.Digest {
		i.log.Debug("the snapshot says what the published one says", "generation", info.Generation)
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unreachable, "publish", err)
	}
	return i.replace(data, info)
}

// Withdraw takes the published snapshot away: from now on nobody is known.
func (i *Installer) Withdraw() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.current = nil
	old, st, err := i.openOurs(Name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		i.retire(old, st.Size)
	}
	if err := unix.Unlinkat(int(i.dir.Fd()), Name, 0); err != nil {
		return fault.Wrap(fault.Internal, "withdraw the snapshot", err)
	}
	return fault.Wrap(fault.Internal, "withdraw the snapshot", i.dir.Sync())
}

// Close gives everything back. What is published stays.
func (i *Installer) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range i.retired {
		if r.timer.Stop() {
			i.punch(r)
		}
	}
	i.retired = nil
	return i.dir.Close()
}

// check reads a snapshot as if a stranger had sent it, as somebody may have who
// has taken over the worker.
func check(data []byte, rules snapshot.Rules) (*Info, error) {
	r, err := snapshot.Open(data)
	if err != nil {
		return nil, err
	}
	if err := r.Validate(rules); err != nil {
		return nil, err
	}
	if !r.Complete() {
		return nil, fault.New(fault.Malformed, "the snapshot is not complete; readers would answer nothing from it")
	}
	users, _, groups, _ := r.Counts()
	return &Info{Generation: r.Generation(), Digest: r.Digest(), Users: users, Groups: groups, Size: int64(len(data))}, nil
}

// inPlace reports whether the file that we published, and know, is still there and
// untouched.
func (i *Installer) inPlace() bool {
	var st unix.Stat_t
	return i.current != nil && unix.Fstatat(int(i.dir.Fd()), Name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && stampOf(&st) == i.stamp
}

// remember takes what is at Name, which is ours and right, for the current one.
func (i *Installer) remember(info *Info) {
	var st unix.Stat_t
	i.current = info
	if err := unix.Fstatat(int(i.dir.Fd()), Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		i.current = nil
	}
	i.stamp = stampOf(&st)
}

// replace goes through the steps of the package comment.
func (i *Installer) replace(data []byte, info *Info) error {
	dir := int(i.dir.Fd())
	if err := i.write(data); err != nil {
		_ = unix.Unlinkat(dir, newName, 0)
		return err
	}
	i.step("written")
	old, oldSize, err := i.linkAside()
	if err != nil {
		_ = unix.Unlinkat(dir, newName, 0)
		return err
	}
	i.step("linked")
	err = unix.Renameat(dir, newName, dir, Name)
	if errors.Is(err, unix.EISDIR) && i.clear(Name) == nil {
		err = unix.Renameat(dir, newName, dir, Name)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, newName, 0)
		_ = unix.Unlinkat(dir, oldName, 0)
		if old != nil {
			_ = old.Close()
		}
		return fault.Wrap(fault.Internal, "publish: rename the new snapshot", err)
	}
	i.remember(info)
	i.step("renamed")
	if err := i.dir.Sync(); err != nil {
		// The mark must not reach the disk before the name does. Readers notice
		// by their glance at the path.
		i.log.Warn("the snapshot directory cannot be synced; the old snapshot is not marked", "error", err)
		if old != nil {
			_ = old.Close()
		}
		return nil
	}
	i.step("synced")
	if old != nil {
		i.retire(old, oldSize)
		i.step("marked")
		if err := unix.Unlinkat(dir, oldName, 0); err != nil {
			i.log.Warn("the superseded snapshot cannot be removed", "error", err)
		}
	}
	i.step("unlinked")
	go func() { // readers of the file do not wait for it, and nor do we
		if err := flushNSCD(i.opt.NSCD); err != nil {
			i.log.Warn("nscd hides new names from programs until its own caches end", "error", err)
		}
	}()
	i.log.Info("names are published", "generation", info.Generation, "users", info.Users, "groups", info.Groups, "bytes", info.Size)
	return nil
}

// clear removes what has a name of ours, an empty directory too.
func (i *Installer) clear(name string) error {
	dir := int(i.dir.Fd())
	err := unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EISDIR) {
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	return err
}

// write makes the new file, on the disk before it has its name.
func (i *Installer) write(data []byte) (err error) {
	dir := int(i.dir.Fd())
	_ = i.clear(newName)
	fd, err := unix.Openat(dir, newName, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return diskFault("publish: make the new snapshot", err)
	}
	f := os.NewFile(uintptr(fd), newName)
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return diskFault("publish: write the new snapshot", err)
	}
	i.step("half written")
	if err := f.Chmod(0o644); err != nil {
		return diskFault("publish: write the new snapshot", err)
	}
	if err := f.Sync(); err != nil {
		return diskFault("publish: write the new snapshot", err)
	}
	return nil
}

func diskFault(op string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fault.WithRemedy(fault.Wrap(fault.Exhausted, op, err), "make room; until then the machine knows what was published last")
	}
	if errors.Is(err, unix.ENOENT) {
		return fault.WithRemedy(fault.Wrap(fault.Internal, op, err), "the directory was removed while latchkeyd ran: restart it")
	}
	return fault.Wrap(fault.Internal, op, err)
}

// linkAside gives the current file its second name and opens it. A current file
// that is not ours is left without one: no reader believes it.
func (i *Installer) linkAside() (*os.File, int64, error) {
	dir := int(i.dir.Fd())
	old, st, err := i.openOurs(Name)
	if errors.Is(err, unix.ENOENT) {
		return nil, 0, nil
	}
	if err != nil {
		i.log.Warn("what is in the place of the snapshot is not ours; it is replaced", "error", err)
		return nil, 0, nil
	}
	i.recoverOld()
	if err := unix.Linkat(dir, Name, dir, oldName, 0); err != nil {
		_ = old.Close()
		return nil, 0, fault.Wrap(fault.Internal, "publish: link the old snapshot aside", err)
	}
	return old, st.Size, nil
}

// openOurs opens a regular file of ours for reading and writing.
func (i *Installer) openOurs(name string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Openat(int(i.dir.Fd()), name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, st, err
	}
	f := os.NewFile(uintptr(fd), name)
	if err := unix.Fstat(fd, &st); err != nil {
		_ = f.Close()
		return nil, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != i.opt.Owner {
		_ = f.Close()
		return nil, st, fmt.Errorf("%s is no regular file of uid %d", name, i.opt.Owner)
	}
	return f, st, nil
}

// setLive writes the word that readers look at.
func setLive(f *os.File, word uint32) error {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], word)
	_, err := f.WriteAt(b[:], liveOffset)
	return err
}
