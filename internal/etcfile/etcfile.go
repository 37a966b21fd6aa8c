// SPDX-License-Identifier: Apache-2.0

// Package etcfile changes files that belong to the administrator: never a file
// that something else manages, never without a copy of what was there, and so
// that a reader sees the old content or the new one. What it changes can be
// shown as a diff first.
//
// It knows the meaning of no file, runs nothing, and keeps no record.
package etcfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// maxFile is the longest file that is read, in bytes.
const maxFile = 1 << 20

// Files are the files under one root; "" or "/" is the machine's own. Links
// that lead out of the root are never followed.
type Files struct{ Root string }

// Open opens the root, which the caller closes.
func (f Files) Open() (*os.Root, error) {
	dir := f.Root
	if dir == "" {
		dir = "/"
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "open the root directory", err)
	}
	return root, nil
}

// Rel turns "/etc/x" into the name that os.Root takes.
func Rel(name string) string {
	if name = strings.TrimPrefix(path.Clean(name), "/"); name == "" {
		return "."
	}
	return name
}

// Read reads a file of at most maxFile bytes.
func Read(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(Rel(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a regular file", name), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return b, err
}

// ReadDir returns the sorted names in a directory.
func ReadDir(root *os.Root, name string) ([]string, error) {
	d, err := root.Open(Rel(name))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// Plain refuses to replace what is not a regular file of its own: a link
// means that something else manages it.
func Plain(root *os.Root, name string) (exists bool, err error) {
	st, err := root.Lstat(Rel(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fault.Wrap(fault.Internal, "look at "+name, err)
	case !st.Mode().IsRegular():
		return true, fault.WithRemedy(fault.Errorf(fault.Conflict, "%s is not a plain file (%s): something else manages it", name, st.Mode().Type()),
			"make it a plain file, or make the change by hand where it is managed")
	}
	return true, nil
}

// Write replaces a file atomically: readers see the old or the new content.
// Mode and owner of a file that is there are kept, a new one is root's, mode.
func Write(root *os.Root, name string, content []byte, mode os.FileMode) error {
	uid, gid := -1, -1
	if st, err := root.Lstat(Rel(name)); err == nil {
		mode = st.Mode().Perm()
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(sys.Uid), int(sys.Gid)
		}
	}
	// A name that no includedir reads: it begins with a dot.
	temp := path.Join(path.Dir(Rel(name)), "."+path.Base(name)+"."+rand.Text()[:8])
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Wrap(fault.Internal, "write "+name, err)
	}
	_, err = f.Write(content)
	if err == nil && uid >= 0 && (uid != os.Geteuid() || gid != os.Getegid()) {
		err = f.Chown(uid, gid)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(temp, Rel(name))
	}
	if err != nil {
		_ = root.Remove(temp)
		return fault.Wrap(fault.Internal, "write "+name, err)
	}
	return syncDir(root, path.Dir(name))
}

// Keep saves the content of name beside it before it changes, under a name
// that is not taken yet, and returns that name. A copy with the same content
// is enough.
func Keep(root *os.Root, name string, content []byte) (string, error) {
	st, err := root.Lstat(Rel(name))
	if err != nil {
		return "", fault.Wrap(fault.Internal, "look at "+name, err)
	}
	for n := 0; n < 100; n++ {
		saved := BackupName(name, n)
		if have, err := Read(root, saved); err == nil && slices.Equal(have, content) {
			return saved, nil
		} else if err == nil || !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := Write(root, saved, content, st.Mode().Perm()); err != nil {
			return "", err
		}
		return saved, nil
	}
	return "", fault.Errorf(fault.Conflict, "there are 100 saved copies of %s already", name)
}

// DropKept removes the saved copy of name that has this content. When there
// are copies and none is the same, it returns the name of the oldest.
func DropKept(root *os.Root, name string, content []byte) (left string) {
	for n := 0; n < 100; n++ {
		have, err := Read(root, BackupName(name, n))
		if err != nil {
			break
		}
		if slices.Equal(have, content) {
			_ = root.Remove(Rel(BackupName(name, n)))
			return ""
		}
		if left == "" {
			left = BackupName(name, n)
		}
	}
	return left
}

func BackupName(name string, n int) string {
	if n == 0 {
		return name + ".before-latchkey"
	}
	return fmt.Sprintf("%s.before-latchkey.%d", name, n)
}

func Remove(root *os.Root, name string) error {
	if err := root.Remove(Rel(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, "remove "+name, err)
	}
	return syncDir(root, path.Dir(name))
}

func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(Rel(dir))
	if err != nil {
		return fault.Wrap(fault.Internal, "sync "+dir, err)
	}
	defer d.Close()
	return fault.Wrap(fault.Internal, "sync "+dir, d.Sync())
}
