// SPDX-License-Identifier: Apache-2.0

// Command demo shows latchkey at work: a real domain with a hundred people, a
// NAS that joins it, and what an administrator sees. It leaves everything
// running and says what to type. `demo down` removes every trace, and `demo
// picture` renders what the tour printed for the README.
//
// It is what `make demo` runs; it never ships.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/node"
)

// labName is the demo's lab, apart from any other.
const labName = "demo"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch strings.Join(os.Args[1:], " ") {
	case "":
		err = demo(ctx)
	case "down":
		err = down()
	case "forward":
		err = forward(ctx)
	case "picture":
		err = picture("build/demo.txt", "docs/demo.svg")
	default:
		fmt.Fprintln(os.Stderr, "usage: demo [down|picture]")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context) error {
	start := time.Now()
	if err := preconditions(); err != nil {
		return err
	}
	n, d, err := stage(ctx)
	if err != nil {
		return err
	}
	record, err := os.Create("build/demo.txt")
	if err != nil {
		return err
	}
	defer record.Close()
	s := &show{ctx: ctx, nas: n, domain: d, out: io.MultiWriter(os.Stdout, record)}
	s.run()
	if s.err != nil {
		return s.err
	}
	fmt.Print(invitation())
	fmt.Printf(farewell, time.Since(start).Round(time.Second))
	return nil
}

const farewell = `
That took %s. Everything is still running; look around:

    build/labctl --name demo run nas              a shell on the NAS (then: latchkey status, latchkey user list, latchkey watch)
    build/labctl --name demo dc samba-tool ...    change something in the domain and watch it arrive
    make demo                                     the tour again, quickly
    make demo-down                                remove every trace
`

// stage brings up the lab, the domain and the NAS, as far as they are not up
// already.
func stage(ctx context.Context) (*nas.NAS, *lab.Domain, error) {
	progress := lab.PrintProgress(os.Stderr)
	l, err := lab.Open(labName, progress)
	if err != nil {
		l, err = lab.Up(ctx, lab.Options{Name: labName, Detached: true, Progress: progress})
		if err != nil {
			return nil, nil, fmt.Errorf("start the lab: %w", err)
		}
	}
	d, err := l.OpenDomain()
	if err != nil {
		if d, err = l.Domain(ctx, lab.DomainOptions{Population: lab.Population{Demo: true}}); err != nil {
			return nil, nil, fmt.Errorf("start the domain: %w", err)
		}
	}
	if box, err := l.OpenBox("nas"); err == nil {
		n := nas.Attach(box)
		if r, err := n.CLI(ctx, "status"); err == nil && r.Ok() {
			return n, d, nil
		}
		// A tour that was cut short: begin this part again.
		if err := box.PowerOff(ctx); err != nil {
			return nil, nil, err
		}
	}
	box, err := l.Box(ctx, "nas", lab.BoxOptions{Layer: &node.Provider})
	if err != nil {
		return nil, nil, fmt.Errorf("start the NAS: %w", err)
	}
	n, err := nas.Install(ctx, box)
	if err != nil {
		return nil, nil, err
	}
	if err := n.Start(ctx, true); err != nil {
		return nil, nil, err
	}
	return n, d, nil
}

func down() error {
	l, err := lab.Open(labName, nil)
	if err != nil {
		fmt.Println("no demo is running")
		return nil
	}
	if err := l.Close(); err != nil {
		return err
	}
	fmt.Println("the demo is gone; the cached Debian stays in", lab.CacheDir(), "(make clean-lab removes it)")
	return nil
}

// preconditions says plainly what is missing, before minutes are spent.
func preconditions() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, for network namespaces and mounts: run it with sudo; nothing of this machine is changed")
	}
	for _, ns := range []string{"net", "mnt", "pid", "uts", "ipc"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			return fmt.Errorf("needs %s namespaces, which this kernel does not have", ns)
		}
	}
	cmd := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Sys: cmd})
	if err != nil {
		return fmt.Errorf("needs to make namespaces, and may not (%w): in a container it has to be a privileged one", err)
	}
	_, _ = p.Wait()
	if fs, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(fs), "overlay") {
		return errors.New("needs the overlay file system: modprobe overlay")
	}
	const want = 5 << 30
	dir := lab.CacheDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err == nil && disk.Bavail*uint64(disk.Bsize) < want {
		return fmt.Errorf("needs 5 GB in %s, where %d MB are free: make room, or set LATCHKEY_LAB_CACHE to another directory",
			dir, disk.Bavail*uint64(disk.Bsize)>>20)
	}
	return nil
}
