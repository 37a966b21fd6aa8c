// SPDX-License-Identifier: Apache-2.0

//go:build lab

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bare starts a lab with one box and no domain.
func bare(t *testing.T, options BoxOptions) *Box {
	t.Helper()
	l, err := Up(t.Context(), Options{Progress: logProgress(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	box, err := l.Box(t.Context(), "nas1", options)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func TestBoxStartsBare(t *testing.T) {
	d := Start(t, DomainOptions{})
	box := d.StartBox(t, "nas1", BoxOptions{})
	for _, absent := range []string{"/etc/krb5.conf", "/etc/krb5.conf.d", "/etc/krb5.keytab"} {
		if got, _ := box.Run(t.Context(), "test", "-e", absent); got.Ok() {
			t.Errorf("a bare box has %s", absent)
		}
	}
	for _, database := range []string{"passwd", "group", "shadow"} {
		line := must(t, box.Machine, "grep", "^"+database+":", "/etc/nsswitch.conf")
		if got := strings.Join(strings.Fields(line), " "); got != database+": files" {
			t.Errorf("nsswitch.conf: got %q, want %q", got, database+": files")
		}
	}
	if got, _ := box.Run(t.Context(), "sh", "-c", "grep -lE 'pam_(sss|winbind|krb5)' /etc/pam.d/*"); got.Ok() {
		t.Errorf("PAM files of a bare box use a peer: %s", got)
	}
	if got, _ := box.Run(t.Context(), "getent", "hosts", d.DC.FQDN()); got.Ok() {
		t.Errorf("a bare box resolves the domain: %s", got)
	}
	conn, err := box.Dial(t.Context(), "tcp", d.DC.IP()+":389")
	if err != nil {
		t.Fatalf("the box does not reach the DC by its address: %v", err)
	}
	conn.Close()
	processes, err := box.Processes(t.Context())
	if err != nil || len(processes) != 0 {
		t.Errorf("processes of a bare box: got %v, %v, want none", processes, err)
	}
}

func TestBoxesAreApart(t *testing.T) {
	one := bare(t, BoxOptions{})
	other, err := one.lab.Box(t.Context(), "nas2", BoxOptions{Hostname: "LONGNAME"})
	if err != nil {
		t.Fatal(err)
	}
	must(t, one.Machine, "useradd", "-m", "only-in-nas1")
	must(t, one.Machine, "sh", "-c", "echo mine >/etc/only-in-nas1; echo mine >/tmp/only-in-nas1")
	for _, path := range []string{"/etc/only-in-nas1", "/tmp/only-in-nas1"} {
		if _, err := other.ReadFile(t.Context(), path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s in the other box: got %v, want that it does not exist", path, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s on the host: got %v, want that it does not exist", path, err)
		}
	}
	if got, _ := other.Run(t.Context(), "getent", "passwd", "only-in-nas1"); got.Ok() {
		t.Error("a user of one box is known in the other")
	}
	if got := must(t, other.Machine, "hostname"); got != "LONGNAME" {
		t.Errorf("host name: got %q, want LONGNAME", got)
	}
	if one.IP() == other.IP() {
		t.Errorf("both boxes have the address %s", one.IP())
	}
	if got := must(t, one.Machine, "ip", "-o", "route"); strings.Contains(got, "default") {
		t.Errorf("the box has a way out: %s", got)
	}
	listener, err := other.Listen("tcp", ":4711")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			fmt.Fprint(conn, "hello")
			conn.Close()
		}
	}()
	if got := must(t, one.Machine, "sh", "-c", "nc -d "+other.IP()+" 4711"); got != "hello" {
		t.Errorf("from box to box: got %q, want hello", got)
	}
	if _, err := net.Dial("tcp", "127.0.0.1:4711"); err == nil {
		t.Error("the port of a box is open on the host")
	}
}

// TestDialStaysOutside shows that speaking into a machine's network leaves none
// of this process's threads there.
func TestDialStaysOutside(t *testing.T) {
	box := bare(t, BoxOptions{})
	networks := func() map[string]bool {
		t.Helper()
		threads, err := filepath.Glob("/proc/self/task/*/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]bool{}
		for _, thread := range threads {
			if network, err := os.Readlink(thread); err == nil {
				all[network] = true
			}
		}
		return all
	}
	before := networks()
	var dials sync.WaitGroup
	for range 50 {
		dials.Go(func() {
			if conn, err := box.Dial(t.Context(), "tcp", GatewayIP+":9"); err == nil {
				conn.Close()
				t.Error("something listens on the switch")
			}
		})
	}
	dials.Wait()
	if after := networks(); len(before) != 1 || len(after) != 1 {
		t.Errorf("networks of the threads: %v before and %v after, want one and the same", before, after)
	}
}

func TestRunTellsEverything(t *testing.T) {
	box := bare(t, BoxOptions{})
	must(t, box.Machine, "groupadd", "-g", "2222", "extra")
	must(t, box.Machine, "useradd", "-m", "-u", "3333", "-G", "extra", "carol")
	for _, tc := range []struct {
		name string
		set  func(*Cmd)
		args []string
		want Result
	}{
		{"output and errors apart", nil, []string{"sh", "-c", "echo out; echo err >&2"}, Result{Stdout: "out\n", Stderr: "err\n"}},
		{"exit status", nil, []string{"sh", "-c", "exit 42"}, Result{Exit: 42}},
		{"killed", nil, []string{"sh", "-c", "kill -9 $$"}, Result{Exit: -1, Signal: syscall.SIGKILL}},
		{"standard input", func(c *Cmd) { c.Stdin = strings.NewReader("some text") }, []string{"cat"}, Result{Stdout: "some text"}},
		{"no standard input", nil, []string{"cat"}, Result{}},
		{"environment", func(c *Cmd) { c.Env = []string{"COLOUR=green"} }, []string{"sh", "-c", "echo $COLOUR $HOME"}, Result{Stdout: "green /root\n"}},
		{"directory", func(c *Cmd) { c.Dir = "/usr/share" }, []string{"pwd"}, Result{Stdout: "/usr/share\n"}},
		{"user by name", func(c *Cmd) { c.User = "carol" }, []string{"sh", "-c", "id -u; id -g; id -G; echo $HOME"}, Result{Stdout: "3333\n3333\n3333 2222\n/home/carol\n"}},
		{"user by number", func(c *Cmd) { c.UID, c.GID, c.Groups = 70001, 70002, []uint32{70003} }, []string{"sh", "-c", "id -u; id -G"}, Result{Stdout: "70001\n70002 70003\n"}},
		{"first process of its world", nil, []string{"cat", "/proc/1/comm"}, Result{Stdout: must(t, box.Machine, "cat", "/proc/1/comm") + "\n"}},
	} {
		c := box.Command(tc.args...)
		if tc.set != nil {
			tc.set(c)
		}
		got, err := c.Run(t.Context())
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if *got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, *got, tc.want)
		}
	}
	if _, err := box.Run(t.Context(), "/no/such/program"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a program that is not there: got %v, want ENOENT", err)
	}
	var large bytes.Buffer
	c := box.Command("head", "-c", "20000000", "/dev/zero")
	c.Stdout = &large
	if _, err := c.Run(t.Context()); err != nil || large.Len() != 20000000 {
		t.Errorf("large output: got %d bytes, %v, want 20000000", large.Len(), err)
	}
}

func TestProcessesEndWithTheirContext(t *testing.T) {
	box := bare(t, BoxOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	process, err := box.Command("sh", "-c", "sleep 1000 & sleep 1000").Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", process.HostPID)); err != nil || string(comm) != "sh\n" {
		t.Errorf("process %d on the host: got %q, %v, want sh", process.HostPID, comm, err)
	}
	// The shell may not have come to its second sleep yet.
	err = poll(t.Context(), time.Millisecond, "two sleeps", func() error {
		if count, err := box.Signal(t.Context(), 0, "sleep"); err != nil || count != 2 {
			return fmt.Errorf("%d processes, %v", count, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := process.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting: got %v, want that it was cancelled", err)
	}
	if err := box.WaitGone(t.Context(), "sh", "sleep"); err != nil {
		t.Error(err)
	}

	// What a command leaves running on purpose stays.
	must(t, box.Machine, "sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 &")
	must(t, box.Machine, "true")
	if count, err := box.Signal(t.Context(), syscall.SIGKILL, "sleep"); err != nil || count != 1 {
		t.Errorf("left running: got %d processes, %v, want 1", count, err)
	}
	if err := box.WaitGone(t.Context(), "sleep"); err != nil {
		t.Error(err)
	}

	stopped, err := box.Command("sleep", "1000").Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stopped.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, err := stopped.Wait(); err != nil || got.Signal != syscall.SIGTERM {
		t.Errorf("after SIGTERM: got %v, %v", got, err)
	}
}

func TestTerminalAndPrompt(t *testing.T) {
	box := bare(t, BoxOptions{})
	must(t, box.Machine, "useradd", "-m", "carol")
	c := box.Command("passwd", "carol")
	c.PTY, c.Rows, c.Cols = true, 24, 80
	process, err := c.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer process.Terminal.Close()
	// expect reads up to a prompt that has no line break, and answers it.
	expect := func(prompt, answer string) {
		t.Helper()
		var seen []byte
		one := make([]byte, 1)
		for !bytes.HasSuffix(seen, []byte(prompt)) {
			if _, err := process.Terminal.Read(one); err != nil {
				t.Fatalf("waiting for %q: %v, after %q", prompt, err, seen)
			}
			seen = append(seen, one[0])
		}
		io.WriteString(process.Terminal, answer+"\n")
	}
	expect("New password: ", "A-local-one-4")
	expect("Retype new password: ", "A-local-one-4")
	if got, err := process.Wait(); err != nil || !got.Ok() {
		t.Fatalf("passwd: %v %v", got, err)
	}
	if got := must(t, box.Machine, "getent", "shadow", "carol"); !strings.HasPrefix(got, "carol:$") {
		t.Errorf("shadow entry: got %q, want a hash", got)
	}
}

// TestLocalSSH shows that the base can do what later tests need: a real sshd,
// asked from another box.
func TestLocalSSH(t *testing.T) {
	server := bare(t, BoxOptions{})
	client, err := server.lab.Box(t.Context(), "client", BoxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	must(t, server.Machine, "sh", "-c", "useradd -m -s /bin/bash carol; echo carol:A-local-one-4 | chpasswd; /usr/sbin/sshd")
	got := must(t, client.Machine, "sshpass", "-p", "A-local-one-4", "ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "carol@"+server.IP(), "whoami; hostname")
	if got != "carol\nnas1" {
		t.Errorf("over SSH: got %q, want carol on nas1", got)
	}
	if log := must(t, server.Machine, "cat", "/var/log/syslog"); !strings.Contains(log, "Accepted password for carol") {
		t.Errorf("syslog of the server: got %q", log)
	}
}

func TestRebootKeepsTheDisk(t *testing.T) {
	box := bare(t, BoxOptions{})
	must(t, box.Machine, "sh", "-c", "echo kept >/var/lib/kept; echo gone >/run/gone; echo gone >/tmp/gone; mkdir /mnt/m; mount -t tmpfs tmpfs /mnt/m; echo gone >/mnt/m/gone; /usr/sbin/sshd")
	if err := box.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if processes, err := box.Processes(t.Context()); err != nil || len(processes) != 0 {
		t.Errorf("processes after the reboot: got %v, %v", processes, err)
	}
	if got := must(t, box.Machine, "sh", "-c", "cat /var/lib/kept; ls /run /tmp /mnt/m; ls -d /run/lock /dev/null /proc/1"); strings.Contains(got, "gone") || !strings.HasPrefix(got, "kept\n") {
		t.Errorf("after the reboot: got %q", got)
	}
	must(t, box.Machine, "/usr/sbin/sshd")
	if got := must(t, box.Machine, "ip", "-o", "-4", "addr", "show", "eth0"); !strings.Contains(got, box.IP()) {
		t.Errorf("address after the reboot: got %q, want %s", got, box.IP())
	}
}

func TestFilesGoInAndOut(t *testing.T) {
	dir := t.TempDir()
	host := filepath.Join(dir, "program")
	if err := os.WriteFile(host, []byte("#!/bin/sh\necho from the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	box := bare(t, BoxOptions{
		Binds: []Bind{{Host: dir, Inside: "/opt/host"}},
		Files: map[string]string{"/etc/given": "given\n"},
	})
	ctx := t.Context()
	if err := box.CopyIn(ctx, host, "/usr/local/bin/program", 0o755); err != nil {
		t.Fatal(err)
	}
	if got := must(t, box.Machine, "program"); got != "from the host" {
		t.Errorf("copied program: got %q", got)
	}
	if got := must(t, box.Machine, "sh", "/opt/host/program"); got != "from the host" {
		t.Errorf("program on a bind: got %q", got)
	}
	if got, err := box.Run(ctx, "touch", "/opt/host/x"); err != nil || got.Ok() {
		t.Errorf("writing to a read-only bind: got %v %v, want it refused", got, err)
	}
	if err := box.WriteFile(ctx, "/srv/a/b", []byte("content"), 0o640); err != nil {
		t.Fatal(err)
	}
	if got := must(t, box.Machine, "stat", "-c", "%a %s", "/srv/a/b"); got != "640 7" {
		t.Errorf("written file: got %q, want mode 640 and 7 bytes", got)
	}
	// A link of the box points into the box.
	must(t, box.Machine, "ln", "-s", "/etc/hostname", "/srv/link")
	if got, err := box.ReadFile(ctx, "/srv/link"); err != nil || string(got) != "nas1\n" {
		t.Errorf("through a link: got %q, %v, want the box's host name", got, err)
	}
	if got, err := box.ReadFile(ctx, "/etc/given"); err != nil || string(got) != "given\n" {
		t.Errorf("file given at the start: got %q, %v", got, err)
	}
}

func TestDisksFillAndFreeze(t *testing.T) {
	box := bare(t, BoxOptions{DiskSize: "16m"})
	ctx := t.Context()
	must(t, box.Machine, "mkdir", "/var/lib/state")
	if err := box.MountDisk(ctx, "/var/lib/state", "1m"); err != nil {
		t.Fatal(err)
	}
	write := func(path string, bytes int) string {
		got, err := box.Run(ctx, "sh", "-c", fmt.Sprintf("head -c %d /dev/zero >%s", bytes, path))
		if err != nil {
			t.Fatal(err)
		}
		return got.Stderr
	}
	if got := write("/var/lib/state/x", 2<<20); !strings.Contains(got, "No space left on device") {
		t.Errorf("2 MB to a disk of 1 MB: got %q", got)
	}
	if got := write("/root/x", 4<<20); got != "" {
		t.Errorf("4 MB to the root: got %q", got)
	}
	if got := write("/root/y", 40<<20); !strings.Contains(got, "No space left on device") {
		t.Errorf("40 MB to a root of 16 MB: got %q", got)
	}
	if err := box.SetReadOnly(ctx, "/var/lib/state", true); err != nil {
		t.Fatal(err)
	}
	if got := write("/var/lib/state/z", 1); !strings.Contains(got, "Read-only file system") {
		t.Errorf("to a read-only disk: got %q", got)
	}
	if err := box.SetReadOnly(ctx, "/var/lib/state", false); err != nil {
		t.Fatal(err)
	}
	must(t, box.Machine, "sh", "-c", "rm /var/lib/state/x; echo fine >/var/lib/state/z")
}
