// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// initName is argv[0] of the process that is PID 1 of a machine. It is this
// same binary: whatever imports package lab can be an init, and a test needs
// no TestMain for it.
const initName = "latchkey-lab-init"

// Descriptors an init inherits.
const (
	fdConfig = 3 // its initConfig
	fdReady  = 4 // told "ok" or what went wrong
	fdLock   = 5 // the lab's lock, held for as long as any init lives
	fdOwner  = 6 // ends when the owner does; absent in detached labs
)

// An initConfig is what an init must know to become a machine.
type initConfig struct {
	Name     string
	Hostname string
	Lower    []string          // overlay layers, uppermost first; empty: no root of its own (the switch)
	Mount    string            // an empty directory of the host to mount on
	Size     string            // tmpfs(5) size of the disk
	Disk     string            // a directory of the host for the disk instead of memory
	Socket   string            // where to listen for requests
	Binds    []Bind            // directories and files of the host
	Files    map[string]string // absolute path in the machine: content
	Detached bool
}

// A Bind makes a file or directory of the host visible in a machine.
type Bind struct {
	Host, Inside string
	Writable     bool
}

// init takes over the process when it was started to be an init.
func init() {
	if len(os.Args) == 0 || os.Args[0] != initName {
		return
	}
	ready := os.NewFile(fdReady, "ready")
	serve, err := becomeMachine()
	if err != nil {
		fmt.Fprintln(ready, err)
		os.Exit(1)
	}
	fmt.Fprintln(ready, "ok")
	ready.Close()
	serve()
	os.Exit(0)
}

// becomeMachine does everything up to serving requests.
func becomeMachine() (serve func(), err error) {
	// What a machine runs must not inherit the lab's own descriptors.
	for fd := fdConfig; fd <= fdOwner; fd++ {
		unix.CloseOnExec(fd)
	}
	var conf initConfig
	config := os.NewFile(fdConfig, "config")
	if err := json.NewDecoder(config).Decode(&conf); err != nil {
		return nil, fmt.Errorf("reading the machine's description: %w", err)
	}
	config.Close()
	unix.Umask(0o022)
	if err := unix.Sethostname([]byte(conf.Hostname)); err != nil {
		return nil, fmt.Errorf("setting the host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("making mounts private: %w", err)
	}
	// Every refusal is told, not one a second: a test would wait for the
	// others. The setting is of this network namespace only.
	if err := os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0); err != nil {
		return nil, fmt.Errorf("setting up the network: %w", err)
	}
	agent, err := listen(conf)
	if err != nil {
		return nil, err
	}
	if len(conf.Lower) > 0 {
		if err := conf.enterRoot(); err != nil {
			return nil, err
		}
	} else if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, fmt.Errorf("mounting /proc: %w", err)
	}
	if !conf.Detached {
		go func() {
			io.Copy(io.Discard, os.NewFile(fdOwner, "owner"))
			os.Exit(1)
		}()
	}
	agent.keep = mountPoints()
	if len(conf.Lower) > 0 {
		agent.collectSyslog()
	}
	return agent.serve, nil
}

// enterRoot mounts the machine's disk and makes it the root.
func (c *initConfig) enterRoot() error {
	disk := c.Disk
	if disk == "" {
		disk = c.Mount
		if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=755,size="+c.Size); err != nil {
			return fmt.Errorf("mounting the disk: %w", err)
		}
	}
	upper, work, root := filepath.Join(disk, "upper"), filepath.Join(disk, "work"), filepath.Join(c.Mount, "root")
	if c.Disk != "" {
		if err := unix.Mount("tmpfs", c.Mount, "tmpfs", 0, "mode=755,size=64k"); err != nil {
			return fmt.Errorf("mounting a place for the root: %w", err)
		}
	}
	for _, dir := range []string{upper, work, root} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(c.Lower, ":"), upper, work)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting the root (%s): %w", options, err)
	}
	if err := mountSystem(root); err != nil {
		return err
	}
	for _, bind := range c.Binds {
		if err := bind.mount(root); err != nil {
			return fmt.Errorf("making %s visible: %w", bind.Host, err)
		}
	}
	for path, content := range c.Files {
		if err := writeFile(filepath.Join(root, path), []byte(content)); err != nil {
			return err
		}
	}
	// pivot_root(2) onto itself: the old root lies on top and is let go.
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("letting go of the host's root: %w", err)
	}
	return os.Chdir("/")
}

// mountSystem mounts what every Linux system has below root.
func mountSystem(root string) error {
	const secure = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		target, kind string
		flags        uintptr
		options      string
	}{
		{"proc", "proc", secure, ""},
		{"sys", "sysfs", secure | unix.MS_RDONLY, ""},
		{"dev", "tmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=755,size=64k"},
		{"dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		target := filepath.Join(root, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mounting /%s: %w", m.target, err)
		}
	}
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := makeDevice(filepath.Join(root, "dev", name), 1, minor); err != nil {
			return err
		}
	}
	if err := makeDevice(filepath.Join(root, "dev/tty"), 5, 0); err != nil {
		return err
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(root, "dev", name)); err != nil {
			return err
		}
	}
	return mountRun(root)
}

// mountRun gives the machine an empty /run, as after every boot.
func mountRun(root string) error {
	run := filepath.Join(root, "run")
	if err := unix.Mount("tmpfs", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	for _, name := range []string{"lock", "sshd", "samba"} {
		if err := os.Mkdir(filepath.Join(run, name), 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(run, "lock"), 0o1777|os.ModeSticky)
}

func makeDevice(path string, major, minor uint32) error {
	if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(major, minor))); err != nil {
		return fmt.Errorf("making %s: %w", path, err)
	}
	return os.Chmod(path, 0o666)
}

func (b Bind) mount(root string) error {
	info, err := os.Stat(b.Host)
	if err != nil {
		return err
	}
	target := filepath.Join(root, b.Inside)
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = writeFile(target, nil)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(b.Host, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if b.Writable {
		return nil
	}
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// mountPoints lists what is mounted now, in the order it was mounted.
func mountPoints() []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var points []string
	for line := range strings.SplitSeq(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 {
			points = append(points, fields[4])
		}
	}
	return points
}
