// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Cmd is a command to run in a machine. Set what is needed, then call one of
// Run, Output or Start once.
type Cmd struct {
	Args   []string
	Env    []string // added to PATH, LANG and HOME
	Dir    string   // "/" when empty
	User   string   // a name in the machine's /etc/passwd; or UID, GID and Groups; root when nothing is set
	UID    uint32
	GID    uint32
	Groups []uint32

	Stdin  io.Reader // nil: end of file at once. An *os.File is handed over as it is
	Stdout io.Writer // nil: kept for Result. An *os.File is handed over as it is
	Stderr io.Writer

	PTY        bool   // give it a terminal of the machine; see Process.Terminal
	Rows, Cols uint16 // its size
	Log        string // send output to this file of the machine instead
	Detach     bool   // survives the process that started it; needs Log

	machine *Machine
}

// A Result is what a command that ended left behind.
type Result struct {
	Stdout, Stderr string
	Exit           int            // exit status; -1 when killed by a signal
	Signal         syscall.Signal // that killed it, or 0
}

// Ok tells whether the command ended with status 0.
func (r *Result) Ok() bool { return r.Exit == 0 }

func (r *Result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.Exit, r.Stdout, r.Stderr)
}

// A Process is a command that runs in a machine.
type Process struct {
	PID      int      // in the machine
	HostPID  int      // on the host, 0 if it was gone too soon to know
	Terminal *os.File // the near end of its pty, when PTY was asked for

	cmd            *Cmd
	conn           *net.UnixConn
	stdout, stderr *os.File // memory files, when the output is kept
	near           []*os.File
	copies         []chan struct{}
	stop           func() bool
	ctx            context.Context
}

// Command prepares a command, as root in "/" with an empty standard input.
func (m *Machine) Command(args ...string) *Cmd { return &Cmd{Args: args, machine: m} }

// Run runs a command to its end. A status other than 0 is no error; an error
// is that it could not be run, or was cut off by ctx.
func (m *Machine) Run(ctx context.Context, args ...string) (*Result, error) {
	return m.Command(args...).Run(ctx)
}

// Output runs a command and returns its standard output without the last line
// break. A status other than 0 is an error that carries what it printed.
func (m *Machine) Output(ctx context.Context, args ...string) (string, error) {
	return m.Command(args...).Output(ctx)
}

// Run starts the command and waits for its end.
func (c *Cmd) Run(ctx context.Context) (*Result, error) {
	process, err := c.Start(ctx)
	if err != nil {
		return nil, err
	}
	return process.Wait()
}

// Output is Machine.Output for a prepared command.
func (c *Cmd) Output(ctx context.Context) (string, error) {
	result, err := c.Run(ctx)
	if err != nil {
		return "", err
	}
	if !result.Ok() {
		return "", fmt.Errorf("%s on %s: %s", strings.Join(c.Args, " "), c.machine.Name(), result)
	}
	return strings.TrimSuffix(result.Stdout, "\n"), nil
}

// Start starts the command. Unless Detach is set, it and its process group are
// killed when ctx ends or this process does.
func (c *Cmd) Start(ctx context.Context) (*Process, error) {
	p := &Process{cmd: c, ctx: ctx}
	fail := func(err error) (*Process, error) {
		p.release()
		return nil, err
	}
	var give []*os.File // for the far side; ours are closed once sent
	defer func() { closeAll(give) }()
	if !c.PTY && c.Log == "" {
		stdin, err := p.input(c.Stdin)
		if err != nil {
			return fail(err)
		}
		give = append(give, stdin)
		for _, stream := range []struct {
			to   io.Writer
			kept **os.File
		}{{c.Stdout, &p.stdout}, {c.Stderr, &p.stderr}} {
			file, err := p.output(stream.to, stream.kept)
			if err != nil {
				return fail(err)
			}
			give = append(give, file)
		}
	}
	conn, answer, passed, err := c.machine.ask(ctx, request{
		Op: "run", Args: c.Args, Env: c.Env, Dir: c.Dir, User: c.User, UID: c.UID, GID: c.GID, Groups: c.Groups,
		PTY: c.PTY, Rows: c.Rows, Cols: c.Cols, Log: c.Log, Detach: c.Detach,
	}, give...)
	if err != nil {
		return fail(err)
	}
	p.PID, p.conn = answer.PID, conn
	if len(passed) > 0 {
		p.HostPID = pidOf(passed[0])
		passed[0].Close()
	}
	if c.PTY && len(passed) > 1 {
		p.Terminal = passed[1]
	}
	p.stop = context.AfterFunc(ctx, func() { conn.Close() })
	return p, nil
}

// Wait waits for the end and returns what was kept of the output.
func (p *Process) Wait() (*Result, error) {
	defer p.release()
	var last reply
	_, err := receiveMessage(p.conn, &last)
	p.stop()
	if p.ctx.Err() != nil {
		return nil, fmt.Errorf("%s on %s: %w", strings.Join(p.cmd.Args, " "), p.cmd.machine.Name(), p.ctx.Err())
	}
	if err != nil {
		return nil, fmt.Errorf("%s on %s: the machine went away: %w", strings.Join(p.cmd.Args, " "), p.cmd.machine.Name(), err)
	}
	// A daemon that the command left behind may hold the output open for
	// ever; what the command itself wrote is there by now.
	for _, done := range p.copies {
		select {
		case <-done:
		case <-time.After(time.Second):
		}
	}
	status := syscall.WaitStatus(last.Status)
	result := &Result{Exit: status.ExitStatus()}
	if status.Signaled() {
		result.Signal = status.Signal()
	}
	result.Stdout, result.Stderr = contents(p.stdout), contents(p.stderr)
	return result, nil
}

// Signal sends a signal to the process and its group.
func (p *Process) Signal(signal syscall.Signal) error {
	return sendMessage(p.conn, request{Signal: int(signal)})
}

// Kill ends the process and its group at once.
func (p *Process) Kill() error { return p.Signal(syscall.SIGKILL) }

func (p *Process) release() {
	if p.conn != nil {
		p.conn.Close()
	}
	if p.stop != nil {
		p.stop()
	}
	closeAll(p.near)
}

// input returns the descriptor that becomes the standard input.
func (p *Process) input(from io.Reader) (*os.File, error) {
	switch source := from.(type) {
	case nil:
		return os.Open("/dev/null")
	case *os.File:
		return duplicate(source)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		io.Copy(write, from)
		write.Close()
	}()
	return read, nil
}

// output returns the descriptor that becomes a standard output.
func (p *Process) output(to io.Writer, kept **os.File) (*os.File, error) {
	switch sink := to.(type) {
	case nil:
		// A memory file, not a pipe: nothing has to read it meanwhile.
		fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, err
		}
		*kept = os.NewFile(uintptr(fd), "output")
		p.near = append(p.near, *kept)
		return duplicate(*kept)
	case *os.File:
		return duplicate(sink)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.near = append(p.near, read)
	done := make(chan struct{})
	p.copies = append(p.copies, done)
	go func() {
		io.Copy(to, read)
		close(done)
	}()
	return write, nil
}

func duplicate(file *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

func contents(file *os.File) string {
	if file == nil {
		return ""
	}
	data, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<32))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return string(data)
}

// pidOf reads the pid that a pidfd stands for, in our own pid namespace.
func pidOf(pidfd *os.File) int {
	data, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(pidfd.Fd())))
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if value, ok := strings.CutPrefix(line, "Pid:"); ok {
			pid, _ := strconv.Atoi(strings.TrimSpace(value))
			return max(pid, 0)
		}
	}
	return 0
}
