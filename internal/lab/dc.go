// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	firstDC  = 10 // last byte of the address of the first domain controller
	firstBox = 20
)

// A DC is a domain controller.
type DC struct {
	*Machine
	options DomainOptions
}

// programs of a running Samba AD DC, as Machine.Signal takes them.
var dcPrograms = []string{"samba", "smbd", "winbindd"}

// dcPorts are those a domain member uses. A DC that answers on all is up.
var dcPorts = []string{"53", "88", "135", "389", "445", "464", "636", "3268", "49152", "49153"}

// FQDN is the DC's DNS name.
func (d *DC) FQDN() string { return d.Hostname() + "." + d.options.DNS }

// startDCMachine starts a machine that is to be a domain controller, over
// layers that provisioning wrote.
func (l *Lab) startDCMachine(ctx context.Context, options DomainOptions, name string, layers []string) (*DC, error) {
	if !boxName.MatchString(name) || len(name) > 15 {
		return nil, fmt.Errorf("host name %q of a domain controller: letters, digits and dashes, 15 at most", name)
	}
	info, err := l.reserve(machineInfo{Name: name, Kind: "dc", Hostname: name}, firstDC)
	if err != nil {
		return nil, err
	}
	m, err := l.startMachine(ctx, info, initConfig{
		Lower: append(layers, l.baseDir), Size: "16g",
		Files: map[string]string{
			"/etc/hostname":    name + "\n",
			"/etc/hosts":       "127.0.0.1 localhost\n" + info.IP + " " + name + "." + options.DNS + " " + name + "\n",
			"/etc/resolv.conf": "search " + options.DNS + "\nnameserver " + Network + fmt.Sprint(firstDC) + "\n",
			"/etc/krb5.conf":   krb5Conf(options),
		},
	})
	if err != nil {
		l.forget(name)
		return nil, err
	}
	return &DC{Machine: m, options: options}, l.plug(m)
}

// keepDisk copies what provisioning and joining wrote on a stopped DC to a
// directory of the host, as a layer for others.
func (m *Machine) keepDisk(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	defer write.Close()
	unpack := exec.CommandContext(ctx, "tar", "-C", dir, "--xattrs", "--xattrs-include=*", "--acls", "-xf", "-")
	var said strings.Builder
	unpack.Stdin, unpack.Stderr = read, &said
	if err := unpack.Start(); err != nil {
		return err
	}
	pack := m.Command("tar", "-C", "/", "--xattrs", "--xattrs-include=*", "--acls", "-cf", "-", "etc/samba", "etc/krb5.conf", "var/lib/samba")
	pack.Stdout = write
	_, err = pack.Output(ctx)
	write.Close()
	if unpacked := unpack.Wait(); unpacked != nil {
		err = errors.Join(err, fmt.Errorf("unpacking the disk of %s: %w: %s", m.Name(), unpacked, said.String()))
	}
	return err
}

// plug connects a started machine to the switch and records it.
func (l *Lab) plug(m *Machine) error {
	hub, err := l.machine("switch")
	if err != nil {
		return err
	}
	if err := plugIn(hub.PID, &m.info); err != nil {
		return err
	}
	return l.remember(m.info)
}

// Start starts Samba and waits until every service answers.
func (d *DC) Start(ctx context.Context) error {
	command := d.Command("sh", "-c", clock+"exec samba --foreground --no-process-group --debug-stdout --debuglevel=1")
	command.Log, command.Detach = "/var/log/samba.log", true
	process, err := command.Start(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	over := make(chan struct{})
	go func() {
		process.Wait()
		cancel() // no port will answer any more
		close(over)
	}()
	defer func() {
		process.conn.Close()
		<-over
	}()
	for _, port := range dcPorts {
		err := poll(ctx, 30*time.Millisecond, "port "+port+" of "+d.Name()+" does not answer", func() error {
			conn, err := d.Dial(ctx, "tcp", d.IP()+":"+port)
			if err == nil {
				conn.Close()
			}
			return err
		})
		if err != nil {
			log, _ := d.ReadFile(context.WithoutCancel(ctx), "/var/log/samba.log")
			return fmt.Errorf("%w; Samba's last words:\n%s", err, lastLines(string(log), 15))
		}
	}
	return nil
}

// Stop ends Samba as a shutdown would.
func (d *DC) Stop(ctx context.Context) error {
	if _, err := d.Signal(ctx, syscall.SIGTERM, dcPrograms...); err != nil {
		return err
	}
	// A frozen process takes the signal only when it goes on.
	if _, err := d.Signal(ctx, syscall.SIGCONT, dcPrograms...); err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if d.WaitGone(patience, dcPrograms...) == nil {
		return nil
	}
	return d.Kill(ctx)
}

// Kill ends Samba as a power cut would.
func (d *DC) Kill(ctx context.Context) error {
	if _, err := d.Signal(ctx, syscall.SIGKILL, dcPrograms...); err != nil {
		return err
	}
	return d.WaitGone(ctx, dcPrograms...)
}

// Restart stops Samba and starts it again.
func (d *DC) Restart(ctx context.Context) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	return d.Start(ctx)
}

// Freeze stops Samba in the middle of what it does: connections stay open and
// nothing answers. Thaw lets it go on.
func (d *DC) Freeze(ctx context.Context) error {
	_, err := d.Signal(ctx, syscall.SIGSTOP, dcPrograms...)
	return err
}

// Thaw undoes Freeze.
func (d *DC) Thaw(ctx context.Context) error {
	_, err := d.Signal(ctx, syscall.SIGCONT, dcPrograms...)
	return err
}

// Log returns what Samba said since the DC was made.
func (d *DC) Log(ctx context.Context) (string, error) {
	data, err := d.ReadFile(ctx, "/var/log/samba.log")
	return string(data), err
}
