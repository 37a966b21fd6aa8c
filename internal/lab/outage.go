// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Blackhole makes ports of the machine swallow every packet, of open
// connections too, without an answer. Without ports the whole machine is gone
// from the network, as when a cable far away is cut.
func (m *Machine) Blackhole(ctx context.Context, ports ...int) error {
	return m.filter(ctx, "drop", ports)
}

// Refuse makes ports of the machine answer every packet with a reset (TCP) or
// port unreachable (UDP), as when no program listens.
func (m *Machine) Refuse(ctx context.Context, ports ...int) error {
	return m.filter(ctx, "reject", ports)
}

// Heal takes back Blackhole and Refuse.
func (m *Machine) Heal(ctx context.Context) error {
	return m.nft(ctx, "add table inet lab\ndelete table inet lab\n")
}

func (m *Machine) filter(ctx context.Context, action string, ports []int) error {
	var rules strings.Builder
	rules.WriteString("add table inet lab\nadd chain inet lab in { type filter hook input priority 0; }\n")
	if len(ports) == 0 {
		fmt.Fprintf(&rules, "add rule inet lab in iifname eth0 %s\n", action)
	}
	for _, port := range ports {
		tcp := action
		if action == "reject" {
			tcp = "reject with tcp reset"
		}
		fmt.Fprintf(&rules, "add rule inet lab in iifname eth0 tcp dport %d %s\n", port, tcp)
		fmt.Fprintf(&rules, "add rule inet lab in iifname eth0 udp dport %d %s\n", port, action)
	}
	return m.nft(ctx, rules.String())
}

func (m *Machine) nft(ctx context.Context, rules string) error {
	command := m.Command("nft", "-f", "-")
	command.Stdin = strings.NewReader(rules)
	_, err := command.Output(ctx)
	return err
}

// Skew sets the DC's clock off by d, 0 to have it right again, and restarts
// Samba. The database and other programs of the DC keep the right time: the
// kernel's clock is everybody's and time namespaces do not cover it, so
// libfaketime tells Samba another one.
func (d *DC) Skew(ctx context.Context, by time.Duration) error {
	var err error
	if by == 0 {
		_, err = d.Output(ctx, "rm", "-f", fakeClock)
	} else {
		// Only a file will do: Samba writes over its environment.
		err = d.WriteFile(ctx, fakeClock, fmt.Appendf(nil, "%+ds\n", int(by.Seconds())), 0o644)
	}
	if err != nil {
		return err
	}
	return d.Restart(ctx)
}

// fakeClock is where libfaketime looks when nothing else is set.
const fakeClock = "/etc/faketimerc"

// clock is the shell command that makes what follows see the DC's clock.
const clock = `[ ! -e ` + fakeClock + ` ] || export LD_PRELOAD='/usr/$LIB/faketime/libfaketime.so.1' LDB_MODULES_DISABLE_DEEPBIND=1; `

// MountDisk mounts an empty disk of its own on a directory of the machine, of
// a size as mount(8) takes it for tmpfs. It is there until a reboot.
func (m *Machine) MountDisk(ctx context.Context, dir, size string) error {
	_, err := m.Output(ctx, "mount", "-t", "tmpfs", "-o", "mode=755,size="+size, "tmpfs", dir)
	return err
}

// SetReadOnly makes what is mounted on dir read-only, or writable again.
func (m *Machine) SetReadOnly(ctx context.Context, dir string, readOnly bool) error {
	mode := "rw"
	if readOnly {
		mode = "ro"
	}
	_, err := m.Output(ctx, "mount", "-o", "remount,"+mode, dir)
	return err
}
