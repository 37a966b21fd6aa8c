// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// ReadKeytab reads a keytab file. A missing file is fault.NotFound, one that
// may not be read fault.Denied.
func ReadKeytab(path string) (*Keytab, error) {
	const op = "read the keytab"
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.Wrap(fileKind(err), op, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fault.Errorf(fault.Malformed, "%s: %s is not a regular file", op, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeytab+1))
	defer secret.Wipe(b)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	if len(b) > maxKeytab {
		return nil, fault.Errorf(fault.Malformed, "%s: %s is larger than %d bytes", op, path, maxKeytab)
	}
	kt, err := ParseKeytab(b)
	return kt, fault.Wrap(fault.Unknown, op+" "+path, err)
}

// WriteFile replaces the file atomically (temporary file beside it, fsync,
// rename, fsync of the directory), mode 0600. The owner and group of a file
// that is there already are kept where we may.
func (k *Keytab) WriteFile(path string) (err error) {
	defer func() { err = fault.Wrap(fault.Unknown, "write the keytab "+path, err) }()
	b, err := k.Marshal()
	if err != nil {
		return err
	}
	defer secret.Wipe(b)
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // 0600 by nature
	if err != nil {
		return fault.Wrap(fileKind(err), "make a temporary file", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if st, serr := os.Lstat(path); serr == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			_ = f.Chown(int(sys.Uid), int(sys.Gid)) // not ours to give: it stays ours
		}
	}
	if _, err := f.Write(b); err != nil {
		return fault.Wrap(fault.Internal, "write", err)
	}
	if err := f.Sync(); err != nil {
		return fault.Wrap(fault.Internal, "sync", err)
	}
	if err := f.Close(); err != nil {
		return fault.Wrap(fault.Internal, "close", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fault.Wrap(fileKind(err), "rename", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fault.Wrap(fault.Internal, "open the directory", err)
	}
	defer d.Close()
	return fault.Wrap(fault.Internal, "sync the directory", d.Sync())
}

func fileKind(err error) fault.Kind {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.NotFound
	case errors.Is(err, fs.ErrPermission):
		return fault.Denied
	}
	return fault.Internal
}
