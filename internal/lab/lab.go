// SPDX-License-Identifier: Apache-2.0

// Package lab is a real Active Directory domain, shaped like Microsoft Entra
// Domain Services, and boxes to try things in, for tests and for people.
//
// A domain controller (Samba) and the boxes are machines: copy-on-write roots
// over a cached Debian, each with its own network, mounts, processes and host
// name. They hang on a switch that has no way out. Nothing of the host
// changes: no service, port, interface, mount, user, nsswitch or PAM file.
// A lab of a test ends with the test, also when the test is killed; a lab
// started by the command labctl stays until it is told to go.
//
// The package never ships: it is for tests, the demo and the benchmark, and
// its passwords are in its source. It needs root, and debootstrap to build
// the Debian the first time.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Options say how a lab is to be.
type Options struct {
	Name     string   // of a lab that others may open; empty: a name nobody else has
	Detached bool     // stays after this process has ended
	Base     BaseSpec // what the machines are made of
	Progress Progress
}

// A Lab is a switch with machines on it.
type Lab struct {
	Name string

	dir       string
	detached  bool
	baseDir   string
	base      BaseSpec
	progress  Progress
	lock      *os.File // held by us and by every init
	ownerRead *os.File // ends when we do
	owner     *os.File
}

// state is what lab.json says, for other processes.
type state struct {
	Created  time.Time              `json:"created"`
	Detached bool                   `json:"detached"`
	Owner    int                    `json:"owner"`
	Base     string                 `json:"base"`
	Spec     BaseSpec               `json:"spec"`
	Machines map[string]machineInfo `json:"machines"`
	Domain   *DomainOptions         `json:"domain,omitempty"`
}

var labName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,19}$`)

// RunDir is where running labs keep sockets and state: $LATCHKEY_LAB_RUN, or
// /run/latchkey-lab.
func RunDir() string {
	if dir := os.Getenv("LATCHKEY_LAB_RUN"); dir != "" {
		return dir
	}
	return "/run/latchkey-lab"
}

// Up starts a lab with no machine on its switch yet. It builds the base if
// the cache has none, and removes what labs of dead owners left behind.
func Up(ctx context.Context, options Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab needs root: run this as root or with sudo")
	}
	if _, err := Sweep(ctx); err != nil {
		return nil, err
	}
	baseDir, err := Base(ctx, options.Base, options.Progress)
	if err != nil {
		return nil, err
	}
	name := options.Name
	if name == "" {
		name = "t" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano()%1e6, 36)
	}
	if !labName.MatchString(name) {
		return nil, fmt.Errorf("lab name %q: lower-case letters, digits and dashes, 20 at most", name)
	}
	l := &Lab{
		Name: name, dir: filepath.Join(RunDir(), name), detached: options.Detached,
		baseDir: baseDir, base: options.Base, progress: options.Progress,
	}
	if err := l.claim(ctx); err != nil {
		return nil, err
	}
	if l.ownerRead, l.owner, err = os.Pipe(); err != nil {
		return nil, err
	}
	if err := l.save(&state{
		Created: time.Now(), Detached: l.detached, Owner: os.Getpid(), Base: baseDir, Spec: options.Base,
		Machines: map[string]machineInfo{},
	}); err != nil {
		return nil, err
	}
	hub, err := l.startMachine(ctx, machineInfo{Name: "switch", Kind: "switch", Hostname: "switch"}, initConfig{})
	if err == nil {
		err = makeSwitch(hub.info.PID)
	}
	if err == nil {
		err = l.remember(hub.info)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Open returns a running lab that another process started detached.
func Open(name string, progress Progress) (*Lab, error) {
	l := &Lab{Name: name, dir: filepath.Join(RunDir(), name), progress: progress}
	st, err := l.load()
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no lab %q is running", name)
	}
	if err != nil {
		return nil, err
	}
	if !alive(l.dir) {
		return nil, fmt.Errorf("lab %q is not running any more", name)
	}
	if !st.Detached {
		return nil, fmt.Errorf("lab %q belongs to process %d and cannot be shared", name, st.Owner)
	}
	l.detached, l.baseDir, l.base = true, st.Base, st.Spec
	// The inits we start hold the lab too.
	if l.lock, err = shareLock(filepath.Join(l.dir, "lock")); err != nil {
		return nil, err
	}
	return l, nil
}

// Close ends the lab: every machine, every process in them, and what it kept
// in memory or in the directory of running labs.
func (l *Lab) Close() error {
	st, err := l.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, info := range st.Machines {
		m := &Machine{lab: l, info: info}
		if _, err := m.askOnce(ctx, request{Op: "poweroff"}); err != nil && m.isInit() {
			unix.Kill(info.PID, unix.SIGKILL)
		}
	}
	if l.owner != nil {
		l.owner.Close()
		l.ownerRead.Close()
	}
	l.lock.Close()
	err = poll(ctx, 5*time.Millisecond, "lab "+l.Name+" does not end", func() error {
		if alive(l.dir) {
			return errors.New("an init is there")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(l.dir)
}

// isInit tells whether the recorded pid is still the machine's init, not a
// process that got its number.
func (m *Machine) isInit() bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", m.info.PID))
	return err == nil && string(data) == initName+"\x00"
}

func (l *Lab) load() (*state, error) {
	data, err := os.ReadFile(filepath.Join(l.dir, "lab.json"))
	if err != nil {
		return nil, err
	}
	st := &state{}
	return st, json.Unmarshal(data, st)
}

func (l *Lab) save(st *state) error {
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(l.dir, "lab.json")
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// change edits the state while no other process does.
func (l *Lab) change(edit func(*state) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	lock, err := lockFile(ctx, filepath.Join(l.dir, "state.lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	st, err := l.load()
	if err != nil {
		return err
	}
	if err := edit(st); err != nil {
		return err
	}
	return l.save(st)
}

func (l *Lab) remember(info machineInfo) error {
	return l.change(func(st *state) error { st.Machines[info.Name] = info; return nil })
}

func (l *Lab) forget(name string) error {
	return l.change(func(st *state) error { delete(st.Machines, name); return nil })
}

func (l *Lab) machine(name string) (machineInfo, error) {
	st, err := l.load()
	if err != nil {
		return machineInfo{}, err
	}
	info, ok := st.Machines[name]
	if !ok {
		return info, fmt.Errorf("lab %s has no machine %q", l.Name, name)
	}
	return info, nil
}

// reserve takes a name and the lowest free address from first on.
func (l *Lab) reserve(info machineInfo, first int) (machineInfo, error) {
	err := l.change(func(st *state) error {
		if _, taken := st.Machines[info.Name]; taken {
			return fmt.Errorf("lab %s has a machine %q already", l.Name, info.Name)
		}
		var used []string
		for _, other := range st.Machines {
			used = append(used, other.IP)
		}
		for last := first; last < 255; last++ {
			if ip := Network + strconv.Itoa(last); !slices.Contains(used, ip) {
				info.IP = ip
				st.Machines[info.Name] = info
				return nil
			}
		}
		return errors.New("no address is left")
	})
	return info, err
}

// Machine returns a machine of the lab by its name.
func (l *Lab) Machine(name string) (*Machine, error) {
	info, err := l.machine(name)
	if err != nil {
		return nil, err
	}
	return &Machine{lab: l, info: info}, nil
}
