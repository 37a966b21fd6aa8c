// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// retire marks a superseded file and sees to its content later. It takes the
// file over. The caller holds the lock.
func (i *Installer) retire(f *os.File, size int64) {
	if err := setLive(f, 0); err != nil {
		// A file system that copies on write can be too full for four bytes.
		i.log.Warn("the superseded snapshot cannot be marked; readers notice a few seconds later", "error", err)
		_ = f.Close()
		return
	}
	if len(i.retired) == maxRetired {
		if first := i.retired[0]; first.timer.Stop() {
			i.punch(first)
		}
		i.retired = i.retired[1:]
	}
	r := &retired{file: f, size: size}
	r.timer = time.AfterFunc(i.opt.Grace, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if at := slices.Index(i.retired, r); at >= 0 {
			i.retired = slices.Delete(i.retired, at, at+1)
			i.punch(r)
		}
	})
	i.retired = append(i.retired, r)
}

// punch gives back the blocks of a superseded file, which processes that never
// look again may keep mapped for months. Its header stays for those that do.
func (i *Installer) punch(r *retired) {
	if r.size > snapshot.HeaderSize {
		err := unix.Fallocate(int(r.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, snapshot.HeaderSize, r.size-snapshot.HeaderSize)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			i.log.Warn("a superseded snapshot keeps its blocks", "error", err)
		}
	}
	_ = r.file.Close()
}

// putInOrder sees to what a predecessor left behind, whatever it was doing.
func (i *Installer) putInOrder() {
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = unix.Unlinkat(int(i.dir.Fd()), newName, 0)
	i.recoverOld()
	f, st, err := i.openOurs(Name)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) {
			i.log.Warn("what is in the place of the snapshot is not ours; it will be replaced", "error", err)
		}
		return
	}
	defer f.Close()
	if st.Size > snapshot.MaxSize || st.Mode&0o022 != 0 {
		i.log.Warn("the published snapshot is not one; it will be replaced", "bytes", st.Size, "mode", st.Mode)
		return
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, st.Size))
	if err != nil {
		i.log.Warn("the published snapshot cannot be read; it will be replaced", "error", err)
		return
	}
	r, err := snapshot.Open(data)
	superseded := err == nil && r.Superseded()
	if superseded {
		// It has the name, so it is the current one, and a mark on it is a
		// mistake: readers would not believe it, and find no other.
		putLive(data)
	}
	info, err := check(data, snapshot.Rules{Ranges: i.ranges})
	if err != nil {
		i.log.Warn("the published snapshot is not right; it will be replaced", "error", err)
		return
	}
	if superseded {
		if err := setLive(f, snapshot.Live); err != nil {
			i.log.Warn("the published snapshot is marked as superseded and cannot be changed", "error", err)
			return
		}
		i.log.Warn("the published snapshot was marked as superseded; it is current again")
	}
	i.remember(info)
}

// recoverOld marks and removes a superseded file that still has its second
// name. Where both names lead to one file, that file is current.
func (i *Installer) recoverOld() {
	dir := int(i.dir.Fd())
	var now unix.Stat_t
	haveNow := unix.Fstatat(dir, Name, &now, unix.AT_SYMLINK_NOFOLLOW) == nil
	old, st, err := i.openOurs(oldName)
	if errors.Is(err, unix.ENOENT) {
		return
	}
	if err == nil {
		if haveNow && now.Ino == st.Ino && now.Dev == st.Dev {
			_ = old.Close()
		} else {
			i.retire(old, st.Size)
		}
	}
	if err := i.clear(oldName); err != nil {
		i.log.Warn("a superseded snapshot cannot be removed", "error", err)
	}
}
