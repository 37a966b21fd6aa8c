// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// TestAccessList compares with what setfacl(1) writes for
// u:100001104:rw,u:100001108:rw,g:100001201:rw on a file of mode 0660.
func TestAccessList(t *testing.T) {
	want := []byte{2, 0, 0, 0,
		1, 0, 6, 0, 255, 255, 255, 255,
		2, 0, 6, 0, 0x50, 0xe5, 0xf5, 5, 2, 0, 6, 0, 0x54, 0xe5, 0xf5, 5,
		4, 0, 6, 0, 255, 255, 255, 255,
		8, 0, 6, 0, 0xb1, 0xe5, 0xf5, 5,
		16, 0, 6, 0, 255, 255, 255, 255,
		32, 0, 0, 0, 255, 255, 255, 255}
	if got := accessList([]uint32{100001108, 100001104, 100001108}, []uint32{100001201}); !bytes.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestSetAccess(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "lk") // /run is a tmpfs, too
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "admin.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	list := func() []byte {
		b := make([]byte, 1024)
		n, err := unix.Lgetxattr(path, aclAttribute, b)
		if errors.Is(err, unix.ENODATA) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		return b[:n]
	}
	if err := setAccess(path, nil, nil); err != nil || list() != nil {
		t.Errorf("nobody: %v", err)
	}
	if err := setAccess(path, []uint32{100001104}, []uint32{100001201}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(list(), accessList([]uint32{100001104}, []uint32{100001201})) {
		t.Errorf("the kernel has %v", list())
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the contract says 0660: %v, %v", info.Mode(), err)
	}
	if err := setAccess(path, nil, nil); err != nil || list() != nil {
		t.Errorf("taken back: %v, %v", err, list())
	}
	// A link is not followed to what somebody else would like to have opened.
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := setAccess(link, []uint32{100001104}, nil); err == nil || list() != nil {
		t.Errorf("through a link: %v", err)
	}
	// Where there are no lists, it is said.
	if err := setAccess("/proc/self/stat", []uint32{100001104}, nil); !fault.Is(err, fault.Internal) || !strings.Contains(fault.Remedy(err), "latchkey-admin") {
		t.Errorf("on a file system without lists: %v", err)
	}
}
