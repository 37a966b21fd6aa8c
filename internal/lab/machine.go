// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Machine is a domain controller, a box, or the switch they hang on: one
// init in network, mount, pid, uts and ipc namespaces of its own.
type Machine struct {
	lab  *Lab
	info machineInfo
}

// machineInfo is what another process needs to find a machine.
type machineInfo struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // switch, dc, box
	PID      int    `json:"pid"`  // of its init, on the host
	Hostname string `json:"hostname"`
	IP       string `json:"ip,omitempty"`
	Port     string `json:"port,omitempty"` // the interface on the switch
}

// Name is what the lab calls the machine.
func (m *Machine) Name() string { return m.info.Name }

// PID is the machine's init as the host sees it: nsenter -t PID -a.
func (m *Machine) PID() int { return m.info.PID }

// IP is the machine's address on the lab's network.
func (m *Machine) IP() string { return m.info.IP }

// Hostname is the short host name.
func (m *Machine) Hostname() string { return m.info.Hostname }

func (m *Machine) socket() string { return filepath.Join(m.lab.dir, m.info.Name, "socket") }

// spawner starts inits of attached labs. PDEATHSIG is sent when the thread
// that forked ends, so one thread that never ends does all of it.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for do := range work {
			do()
		}
	}()
	return work
})

// startMachine starts an init and waits until it serves. Nothing is left of
// it when that fails.
func (l *Lab) startMachine(ctx context.Context, info machineInfo, conf initConfig) (*Machine, error) {
	m := &Machine{lab: l, info: info}
	dir := filepath.Dir(m.socket())
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	conf.Name, conf.Hostname, conf.Detached = info.Name, info.Hostname, l.detached
	conf.Mount, conf.Socket = filepath.Join(dir, "mnt"), m.socket()
	if err := os.MkdirAll(conf.Mount, 0o700); err != nil {
		return nil, err
	}
	if len(conf.Socket) > 100 {
		return nil, fmt.Errorf("the path %s is too long for a socket; set LATCHKEY_LAB_RUN to a shorter directory", conf.Socket)
	}
	log, err := os.OpenFile(filepath.Join(dir, "init.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	configRead, configWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer configRead.Close()
	defer configWrite.Close()
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyRead.Close()
	defer readyWrite.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()

	files := []*os.File{null, log, log, configRead, readyWrite, l.lock}
	attr := &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if !l.detached {
		attr.Pdeathsig = syscall.SIGKILL
		files = append(files, l.ownerRead)
	}
	var process *os.Process
	started := make(chan struct{})
	spawner() <- func() {
		defer close(started)
		process, err = os.StartProcess("/proc/self/exe", []string{initName}, &os.ProcAttr{
			Dir: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOTRACEBACK=single"}, Files: files, Sys: attr,
		})
	}
	<-started
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("making namespaces: %w; a lab needs root with CAP_SYS_ADMIN (in a container: --privileged)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("starting the init of %s: %w", info.Name, err)
	}
	m.info.PID = process.Pid
	go process.Wait()
	readyWrite.Close()
	go func() {
		json.NewEncoder(configWrite).Encode(conf)
		configWrite.Close()
	}()
	stop := context.AfterFunc(ctx, func() { process.Kill(); readyRead.SetReadDeadline(time.Now()) })
	defer stop()
	answer, err := bufio.NewReader(readyRead).ReadString('\n')
	if strings.TrimSpace(answer) != "ok" {
		process.Kill()
		text, _ := os.ReadFile(log.Name())
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("the init of %s did not start: %s%s (%v)", info.Name, strings.TrimSpace(answer), lastLines(string(text), 10), err)
	}
	return m, nil
}

// ask sends one request and returns the first reply. The connection stays
// open for those who expect more.
func (m *Machine) ask(ctx context.Context, req request, files ...*os.File) (*net.UnixConn, *reply, []*os.File, error) {
	dialer := net.Dialer{}
	raw, err := dialer.DialContext(ctx, "unixpacket", m.socket())
	if err != nil {
		return nil, nil, nil, fmt.Errorf("machine %s is not running: %w", m.info.Name, err)
	}
	conn := raw.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := sendMessage(conn, req, files...); err != nil {
		conn.Close()
		return nil, nil, nil, fmt.Errorf("machine %s: %w", m.info.Name, err)
	}
	var answer reply
	passed, err := receiveMessage(conn, &answer)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, nil, nil, fmt.Errorf("machine %s: %w", m.info.Name, err)
	}
	if err := answer.err(); err != nil {
		conn.Close()
		closeAll(passed)
		return nil, nil, nil, fmt.Errorf("machine %s: %w", m.info.Name, err)
	}
	return conn, &answer, passed, nil
}

func (m *Machine) askOnce(ctx context.Context, req request) (*reply, error) {
	conn, answer, passed, err := m.ask(ctx, req)
	if err != nil {
		return nil, err
	}
	closeAll(passed)
	conn.Close()
	return answer, nil
}

// Processes lists what runs in the machine, without its init.
func (m *Machine) Processes(ctx context.Context) ([]ProcessInfo, error) {
	answer, err := m.askOnce(ctx, request{Op: "processes"})
	if err != nil {
		return nil, err
	}
	return answer.Processes, nil
}

// Signal sends a signal to every process with one of the names (comm, or the
// base name of its program), or to every process of the machine when no name
// is given. It returns how many there were. Signal 0 only counts.
func (m *Machine) Signal(ctx context.Context, signal syscall.Signal, names ...string) (int, error) {
	answer, err := m.askOnce(ctx, request{Op: "signal", Signal: int(signal), Names: names})
	if err != nil {
		return 0, err
	}
	return answer.Count, nil
}

// SignalPID sends a signal to one process by its pid inside the machine.
func (m *Machine) SignalPID(ctx context.Context, pid int, signal syscall.Signal) error {
	_, err := m.askOnce(ctx, request{Op: "signal", Signal: int(signal), PID: pid})
	return err
}

// WaitGone waits until no process has one of the names.
func (m *Machine) WaitGone(ctx context.Context, names ...string) error {
	return poll(ctx, 20*time.Millisecond, fmt.Sprintf("%v still running on %s", names, m.info.Name), func() error {
		count, err := m.Signal(ctx, 0, names...)
		if err == nil && count > 0 {
			err = fmt.Errorf("%d processes", count)
		}
		return err
	})
}

// Reboot kills every process and forgets /run, /tmp, /dev/shm and mounts made
// since the start, as a power cut would. The disk and the address stay.
func (m *Machine) Reboot(ctx context.Context) error {
	_, err := m.askOnce(ctx, request{Op: "reboot"})
	return err
}

// PowerOff ends the machine with all it runs, its disk and its interface.
func (m *Machine) PowerOff(ctx context.Context) error {
	_, err := m.askOnce(ctx, request{Op: "poweroff"})
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) {
		err = nil
	}
	if err != nil {
		return err
	}
	gone := poll(ctx, 5*time.Millisecond, "machine "+m.info.Name+" does not end", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", m.info.PID)); err == nil {
			return errors.New("init is there")
		}
		return nil
	})
	if gone != nil {
		return gone
	}
	return m.lab.forget(m.info.Name)
}

// poll calls check until it succeeds or ctx ends.
func poll(ctx context.Context, every time.Duration, what string, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %w)", what, ctx.Err(), err)
		case <-time.After(every):
		}
	}
}
