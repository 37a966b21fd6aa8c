// SPDX-License-Identifier: Apache-2.0

//go:build lab

package lab

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hostState is what a lab must not change: a text per item.
func hostState(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		addresses, _ := i.Addrs()
		state["interface "+i.Name] = fmt.Sprint(addresses)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		state["mount "+fields[4]+" "+fields[0]] = line
	}
	// Ports that programs of a lab listen on; others may come and go.
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		data, err := os.ReadFile("/proc/self/net/" + table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			var port int
			if _, hex, ok := strings.Cut(fields[1], ":"); !ok {
				continue
			} else if _, err := fmt.Sscanf(hex, "%X", &port); err != nil || port > 1024 && port < 49152 && port/2 != 3268/2 || port > 49160 {
				continue
			}
			if fields[3] == "0A" || strings.HasPrefix(table, "udp") {
				state["port "+table+" "+fields[1]] = "open"
			}
		}
	}
	for _, pattern := range []string{
		"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/nsswitch.conf", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
		"/etc/krb5*", "/etc/pam.conf", "/etc/pam.d/*", "/etc/samba", "/etc/sssd", "/etc/ssh/*", "/etc/systemd/system/*", "/etc/init.d/*",
		"/run/netns/*", "/run/samba", "/var/lib/samba", "/etc/apt/sources.list*",
	} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			state["file "+path] = fileState(path)
		}
	}
	name, _ := os.Hostname()
	state["host name"] = name
	return state
}

func fileState(path string) string {
	info, err := os.Lstat(path)
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprint(info.Mode(), info.ModTime().UnixNano())
	if info.Mode()&fs.ModeType == 0 {
		data, _ := os.ReadFile(path)
		text += fmt.Sprintf(" %x", sha256.Sum256(data))
	}
	return text
}

// sameHost compares two states of the host.
func sameHost(t *testing.T, when string, before, after map[string]string) {
	t.Helper()
	var keys []string
	for key := range before {
		keys = append(keys, key)
	}
	for key := range after {
		if _, known := before[key]; !known {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	for _, key := range keys {
		if before[key] != after[key] {
			t.Errorf("%s, %s changed on the host: from %q to %q", when, key, before[key], after[key])
		}
	}
}

func TestHostIsUnchanged(t *testing.T) {
	before := hostState(t)
	l, err := Up(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Domain(t.Context(), DomainOptions{}); err != nil {
		t.Fatal(err)
	}
	box, err := l.Box(t.Context(), "nas1", BoxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	must(t, box.Machine, "sh", "-c", "useradd carol; /usr/sbin/sshd; mount -t tmpfs tmpfs /mnt; echo x >>/etc/nsswitch.conf; hostname other; ip link add dummy0 type bridge; smbd -D; nmbd -D; true")
	sameHost(t, "while a lab runs", before, hostState(t))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	sameHost(t, "after the lab", before, hostState(t))
	if _, err := os.Stat(filepath.Join(RunDir(), l.Name)); err == nil {
		t.Errorf("the directory of the lab is still there")
	}
	for _, m := range []*Box{box} {
		if m.isInit() {
			t.Errorf("the init of %s is still there", m.Name())
		}
	}
}

func TestKilledOwnerLeavesNothing(t *testing.T) {
	before := hostState(t)
	name := fmt.Sprintf("killed%d", os.Getpid())
	owner := exec.Command("/proc/self/exe")
	owner.Env = append(os.Environ(), ownerEnv+"="+name)
	output, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if line != "ready\n" {
		owner.Process.Kill()
		t.Fatalf("the owner says %q, %v", line, err)
	}
	reports, err := Status()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(reports, func(r Report) bool { return r.Name == name })
	if at < 0 || len(reports[at].Machines) != 3 {
		t.Fatalf("the lab of the owner is not in %+v", reports)
	}
	if swept, err := Sweep(t.Context()); err != nil || slices.Contains(swept, name) {
		t.Fatalf("sweeping while it lives: %v, %v", swept, err)
	}
	if err := owner.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	owner.Wait()
	for _, info := range reports[at].Machines {
		m := &Machine{info: machineInfo{PID: info.PID}}
		err := poll(t.Context(), 5*time.Millisecond, "the init of "+info.Name+" ends", func() error {
			if m.isInit() {
				return fmt.Errorf("process %d is there", info.PID)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	sameHost(t, "after the owner was killed", before, hostState(t))
	// The kernel closes the files of a killed process last, its lock too.
	err = poll(t.Context(), 5*time.Millisecond, "the lab is swept", func() error {
		if _, err := Sweep(t.Context()); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(RunDir(), name)); err == nil {
			return fmt.Errorf("the directory of %s is there", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
