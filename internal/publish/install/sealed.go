// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// seals are what a memfd must have before it is looked into: from then on
// nobody can change it, us included.
const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// mapSealed maps a sealed memfd. Only a memfd can have all seals: a file of
// another file system has none, and one of tmpfs is born with the last of them.
// The descriptor is not read from, so a FIFO cannot hold us up.
func mapSealed(f *os.File) ([]byte, error) {
	if f == nil {
		return nil, fault.New(fault.Malformed, "publish: there is no file")
	}
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fault.Wrap(fault.Internal, "publish: look at the file", err)
	}
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG || err != nil:
		return nil, fault.New(fault.Denied, "publish: the file is no memfd")
	case have&seals != seals:
		return nil, fault.New(fault.Denied, "publish: the memfd is not sealed")
	case st.Size < snapshot.HeaderSize || st.Size > snapshot.MaxSize:
		return nil, fault.Errorf(fault.Denied, "publish: the memfd has %d bytes, a snapshot %d to %d", st.Size, snapshot.HeaderSize, snapshot.MaxSize)
	}
	data, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "publish: map the memfd", err)
	}
	return data, nil
}

func putLive(data []byte) {
	binary.NativeEndian.PutUint32(data[liveOffset:], snapshot.Live)
}
