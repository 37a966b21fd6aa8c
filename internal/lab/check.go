// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Need is one thing that a lab needs of the host.
type Need struct {
	What string // "root"
	Err  error  // nil when it is there
	Fix  string // what to do when it is not
}

// Megabytes that a lab needs: the base and one filled domain on disk; a domain
// controller and a few boxes in memory.
const (
	needDisk   = 1500
	needMemory = 900
)

// Check tries what a lab needs of the host, and changes nothing. The needs
// after one that fails for want of root are left out.
func Check() []Need {
	if os.Geteuid() != 0 {
		return []Need{{"root", errors.New("this is user " + fmt.Sprint(os.Geteuid())), "run it as root, or with sudo"}}
	}
	const privileges = "give the container all privileges (docker run --privileged), or run on a machine of its own"
	_, noDebootstrap := exec.LookPath("debootstrap")
	if _, err := os.Stat(filepath.Join(CacheDir(), BaseSpec{}.Key())); err == nil {
		noDebootstrap = nil // the base is built already
	}
	return []Need{
		{What: "root"},
		{"namespaces of one's own", tryNamespaces(), privileges},
		{"overlayfs", tryOverlay(), privileges + "; the cache directory " + CacheDir() + " must be on a file system that overlayfs takes (LATCHKEY_LAB_CACHE)"},
		{"bridges and cables in a network namespace", tryNetwork(), "load the kernel modules bridge and veth"},
		{"debootstrap", noDebootstrap, "apt-get install debootstrap"},
		{fmt.Sprintf("%d MB of disk for %s", needDisk, CacheDir()), checkDisk(), "free some space, or set LATCHKEY_LAB_CACHE to a directory elsewhere"},
		{fmt.Sprintf("%d MB of memory", needMemory), checkMemory(), "end other programs"},
	}
}

func tryNamespaces() error {
	return combined("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "true")
}

// tryOverlay lays an overlay in memory over a directory of the cache's disk.
func tryOverlay() error {
	lower := existingParent(CacheDir())
	const script = `mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/r && mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/u,workdir=/mnt/w" /mnt/r`
	return combined("unshare", "--mount", "sh", "-c", script, "overlay", lower)
}

func combined(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// tryNetwork makes a bridge and a cable where nobody sees them.
func tryNetwork() error {
	return onOwnThread(func() error {
		ns, err := netns.New()
		if err != nil {
			return err
		}
		defer ns.Close()
		return errors.Join(
			netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "try0"}}),
			netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "try1"}, PeerName: "try2"}))
	})
}

func checkDisk() error {
	var disk unix.Statfs_t
	where := existingParent(CacheDir())
	if err := unix.Statfs(where, &disk); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if free := disk.Bavail * uint64(disk.Bsize) >> 20; free < needDisk {
		return fmt.Errorf("%d MB are free", free)
	}
	return nil
}

func checkMemory() error {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var kilobytes uint64
		if _, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kilobytes); err == nil {
			if kilobytes>>10 < needMemory {
				return fmt.Errorf("%d MB are available", kilobytes>>10)
			}
			return nil
		}
	}
	return errors.New("/proc/meminfo does not tell what is available")
}

// existingParent is dir, or the nearest directory above it that exists.
func existingParent(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
