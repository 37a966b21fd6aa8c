// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// An agent is the serving half of an init. It runs as PID 1 of the machine,
// so it also reaps every orphan.
type agent struct {
	listener *net.UnixListener
	keep     []string // mounts that a reboot keeps

	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
	cables  map[string]*slowCable // of the switch, by port
}

func listen(conf initConfig) (*agent, error) {
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: conf.Socket, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listening for requests: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	return &agent{listener: listener, waiting: map[int]chan syscall.WaitStatus{}, cables: map[string]*slowCable{}}, nil
}

func (a *agent) serve() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	// Caught and forgotten, not ignored: children inherit what is ignored.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGPIPE, unix.SIGTERM)
	go func() {
		for range children {
			a.reap()
		}
	}()
	for {
		conn, err := a.listener.AcceptUnix()
		if err != nil {
			return
		}
		go a.handle(conn)
	}
}

// reap collects every child that ended. Starting a process holds the same
// lock, so an end is never seen before the beginning was noted.
func (a *agent) reap() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if waiter, ok := a.waiting[pid]; ok {
			waiter <- status
			delete(a.waiting, pid)
		}
	}
}

func (a *agent) handle(conn *net.UnixConn) {
	defer conn.Close()
	var req request
	files, err := receiveMessage(conn, &req)
	if err != nil {
		return
	}
	switch req.Op {
	case "run":
		err = a.run(conn, &req, files)
	case "open":
		var file *os.File
		if file, err = os.OpenFile(req.Path, req.Flags, os.FileMode(req.Perm)); err == nil {
			// A child that is just being started would keep the file open.
			a.mu.Lock()
			sendMessage(conn, reply{}, file)
			file.Close()
			a.mu.Unlock()
		}
	case "processes":
		sendMessage(conn, reply{Processes: listProcesses()})
	case "signal":
		var count int
		if count, err = signalProcesses(&req); err == nil {
			sendMessage(conn, reply{Count: count})
		}
	case "reboot":
		if err = a.reboot(); err == nil {
			sendMessage(conn, reply{})
		}
	case "delay":
		if err = a.setDelay(req.Path, req.Delay); err == nil {
			sendMessage(conn, reply{})
		}
	case "poweroff":
		sendMessage(conn, reply{})
		os.Exit(0)
	default:
		err = fmt.Errorf("unknown request %q", req.Op)
	}
	closeAll(files)
	if err != nil {
		sendMessage(conn, failure(err))
	}
}

func failure(err error) reply {
	r := reply{Error: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		r.Errno = int(errno)
		r.Error = strings.TrimSuffix(r.Error, ": "+errno.Error())
	}
	return r
}

// run starts a process, tells its pid, and tells its end. When the caller
// goes away first, the process and its group are killed.
func (a *agent) run(conn *net.UnixConn, req *request, files []*os.File) error {
	if len(req.Args) == 0 {
		return errors.New("no command")
	}
	if err := req.resolveUser(); err != nil {
		return err
	}
	// A group of its own, but no session: a child of PID 1 that leads a
	// session takes itself for a daemon already (sshd does).
	attr := &syscall.ProcAttr{Dir: req.Dir, Env: req.environment(), Sys: &syscall.SysProcAttr{
		Setpgid:    !req.PTY,
		Setsid:     req.PTY,
		Credential: &syscall.Credential{Uid: req.UID, Gid: req.GID, Groups: req.Groups},
	}}
	if attr.Dir == "" {
		attr.Dir = "/"
	}
	var passBack []*os.File
	switch {
	case req.PTY:
		terminal, console, err := pty.Open()
		if err != nil {
			return fmt.Errorf("opening a pty: %w", err)
		}
		defer terminal.Close()
		defer console.Close()
		if req.Rows > 0 {
			pty.Setsize(terminal, &pty.Winsize{Rows: req.Rows, Cols: req.Cols})
		}
		if err := console.Chown(int(req.UID), 5); err != nil {
			return err
		}
		attr.Sys.Setctty = true
		attr.Files = []uintptr{console.Fd(), console.Fd(), console.Fd()}
		passBack = append(passBack, terminal)
	case req.Log != "":
		if err := os.MkdirAll(filepath.Dir(req.Log), 0o755); err != nil {
			return err
		}
		null, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		defer null.Close()
		log, err := os.OpenFile(req.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer log.Close()
		attr.Files = []uintptr{null.Fd(), log.Fd(), log.Fd()}
	case len(files) == 3:
		attr.Files = []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()}
	default:
		return errors.New("a process needs three descriptors")
	}
	path, err := findProgram(req.Args[0], attr.Env)
	if err != nil {
		return err
	}
	ended := make(chan syscall.WaitStatus, 1)
	a.mu.Lock()
	pid, err := syscall.ForkExec(path, req.Args, attr)
	if err == nil {
		a.waiting[pid] = ended
	}
	a.mu.Unlock()
	if err != nil {
		return &os.PathError{Op: "exec", Path: path, Err: err}
	}
	closeAll(files)
	if pidfd, err := unix.PidfdOpen(pid, 0); err == nil {
		handle := os.NewFile(uintptr(pidfd), "pidfd")
		defer handle.Close()
		passBack = append([]*os.File{handle}, passBack...)
	}
	if err := sendMessage(conn, reply{PID: pid}, passBack...); err != nil && !req.Detach {
		unix.Kill(-pid, unix.SIGKILL)
	}
	over := make(chan struct{})
	if !req.Detach {
		go func() {
			var again request
			for {
				if _, err := receiveMessage(conn, &again); err != nil {
					break
				}
				unix.Kill(-pid, unix.Signal(again.Signal))
			}
			select {
			case <-over: // what it left running may stay
			default:
				unix.Kill(-pid, unix.SIGKILL)
			}
		}()
	}
	status := <-ended
	close(over)
	sendMessage(conn, reply{PID: pid, Ended: true, Status: uint32(status)})
	return nil
}

func (r *request) environment() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	if r.UID == 0 {
		env = append(env, "HOME=/root")
	}
	return append(env, r.Env...)
}

func findProgram(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			path = value
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		full := filepath.Join(dir, name)
		if info, err := os.Stat(full); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", &os.PathError{Op: "exec", Path: name, Err: syscall.ENOENT}
}

// resolveUser reads the machine's own files, never NSS: a test of the names
// must not depend on them.
func (r *request) resolveUser() error {
	if r.User == "" {
		return nil
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	found := false
	for line := range strings.SplitSeq(string(passwd), "\n") {
		fields := strings.Split(line, ":")
		if len(fields) == 7 && fields[0] == r.User {
			uid, _ := strconv.ParseUint(fields[2], 10, 32)
			gid, _ := strconv.ParseUint(fields[3], 10, 32)
			r.UID, r.GID, found = uint32(uid), uint32(gid), true
			r.Env = append([]string{"HOME=" + fields[5], "USER=" + r.User}, r.Env...)
		}
	}
	if !found {
		return fmt.Errorf("no user %q in the machine's /etc/passwd", r.User)
	}
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(string(group), "\n") {
		fields := strings.Split(line, ":")
		if len(fields) == 4 && slices.Contains(strings.Split(fields[3], ","), r.User) {
			gid, _ := strconv.ParseUint(fields[2], 10, 32)
			r.Groups = append(r.Groups, uint32(gid))
		}
	}
	return nil
}

// reboot ends every process but this one and clears what lives in memory
// only. The disk stays, and so does the network.
func (a *agent) reboot() error {
	for range 200 {
		if err := unix.Kill(-1, unix.SIGKILL); errors.Is(err, unix.ESRCH) {
			break
		}
		a.reap()
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
	points := mountPoints()
	for _, point := range slices.Backward(points) {
		if point == "/run" || point == "/dev/shm" || !slices.Contains(a.keep, point) {
			unix.Unmount(point, unix.MNT_DETACH)
		}
	}
	if err := mountRun("/"); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return err
	}
	old, _ := filepath.Glob("/tmp/*")
	for _, path := range old {
		os.RemoveAll(path)
	}
	return nil
}

// collectSyslog writes what programs log by syslog(3) to /var/log/syslog.
func (a *agent) collectSyslog() {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log", Net: "unixgram"})
	if err != nil {
		return
	}
	os.Chmod("/dev/log", 0o666)
	go func() {
		line := make([]byte, 64<<10)
		for {
			n, err := conn.Read(line)
			if err != nil {
				if errors.Is(err, io.EOF) {
					continue
				}
				return
			}
			if log, err := os.OpenFile("/var/log/syslog", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640); err == nil {
				log.Write(append([]byte(strings.TrimRight(string(line[:n]), "\x00\n")), '\n'))
				log.Close()
			}
		}
	}()
}
