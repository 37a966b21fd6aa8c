// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
)

// passedOn are the variables that a worker gets from our own environment.
var passedOn = []string{"TZ", "LANG", "JOURNAL_STREAM", "GOMEMLIMIT", "GOMAXPROCS",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}

// life is one worker from its start to its end.
type life struct {
	cmd    *exec.Cmd
	conn   *control.Conn
	heard  chan heard
	exited chan struct{} // closed when the process is gone; cmd.ProcessState is set then
	ready  bool
}

// heard is one message of the worker.
type heard struct {
	number uint32
	m      control.Message
	file   *os.File
	err    error
}

// start starts a worker: another user, no capability and no way to get any, the
// listeners and its end of the socketpair. It dies with us.
func (m *Monitor) start() (*life, error) {
	m.arranging.Lock()
	defer m.arranging.Unlock()
	conn, theirs, err := control.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := &exec.Cmd{Path: m.program, Stderr: os.Stderr, Dir: "/"}
	cmd.Env = []string{"PATH=" + systemPath}
	for _, name := range passedOn {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	handedOver, err := m.handedOver().HandOver(cmd)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	connections, err := m.keeper.Attach()
	if err != nil {
		handedOver()
		_ = conn.Close()
		return nil, err
	}
	defer connections.Close()
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs, connections)
	cmd.Args = append(append([]string(nil), m.arguments...), "--connections", strconv.Itoa(2+len(cmd.ExtraFiles)), "--control", strconv.Itoa(1+len(cmd.ExtraFiles)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Credential: m.identity}

	l := &life{cmd: cmd, conn: conn, heard: make(chan heard, 64), exited: make(chan struct{})}
	started := make(chan error, 1)
	go spareThread(func() {
		// This thread gives its privileges up before the fork. It has to live
		// as long as the worker, whose parent it is to PR_SET_PDEATHSIG.
		err := hardenThread()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // the outcome is in ProcessState
			close(l.exited)
		}
	})
	err = <-started
	handedOver()
	if err != nil {
		_ = conn.Close()
		return nil, fault.WithRemedy(fault.Wrap(fault.Internal, "start the worker", err),
			"see that the user latchkey may run "+programName()+", and that this system lets root change its user")
	}
	go l.hear()
	if err := conn.Send(0, &control.Welcome{Started: m.started, Restarts: m.restarts, LastEnd: m.lastEnd}, nil); err != nil {
		m.log.Debug("the worker was gone before its welcome", "error", err)
	}
	m.life = l
	return l, nil
}

// spareThread runs fn on a thread that ends with it. It is never the first
// thread of the process, which cannot end and is what /proc shows of us.
func spareThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		fn()
		return // a goroutine that ends with its thread locked takes it along
	}
	done := make(chan struct{})
	go func() { // cannot run on this thread while we hold it
		defer close(done)
		spareThread(fn)
	}()
	<-done
	runtime.UnlockOSThread()
}

func programName() string {
	if name, err := os.Executable(); err == nil {
		return name
	}
	return "latchkeyd"
}

// hear passes the worker's messages on until the connection ends.
func (l *life) hear() {
	for {
		number, m, file, err := l.conn.Receive()
		select {
		case l.heard <- heard{number, m, file, err}:
		case <-l.exited:
			if file != nil {
				_ = file.Close()
			}
			return
		}
		if err != nil {
			return
		}
	}
}

// watch stays with one worker until it has ended, and says how. When ctx ends
// it asks the worker to stop, and kills it when it takes too long.
func (m *Monitor) watch(ctx context.Context, l *life, hup <-chan os.Signal) string {
	defer l.conn.Close()
	requests := make(chan heard, 16)
	defer close(requests)
	go m.serve(l, requests)

	// Silence is counted in ticks of our own: while this machine sleeps, or we
	// ourselves are stopped, the worker is not late.
	tick := time.NewTicker(m.silence / 12)
	defer tick.Stop()
	silent, why := 0, ""
	stopping := ctx.Done()
	var deadline <-chan time.Time
	kill := func(reason string) {
		if why == "" {
			why = reason
		}
		_ = l.cmd.Process.Kill()
	}
	for {
		select {
		case h := <-l.heard:
			silent = 0
			m.listen(l, h, requests, kill)
		case <-tick.C:
			if silent++; silent > 12 && len(l.heard) == 0 && why == "" {
				kill(fmt.Sprintf("killed: it was silent for %s", m.silence))
			}
		case <-hup:
			_ = m.reload() // the worker finds out by itself what is wrong with a bad one
			_ = l.conn.Send(0, &control.Reload{}, nil)
			if l.ready {
				m.notify(daemon.SdNotifyReady)
			}
		case <-stopping:
			stopping = nil
			m.notify(daemon.SdNotifyStopping)
			_ = l.conn.Send(0, &control.Stop{}, nil)
			deadline = time.After(stopTime)
		case <-deadline:
			kill(fmt.Sprintf("killed: it did not stop within %s", stopTime))
		case <-l.exited:
			if why != "" {
				return why
			}
			return strings.TrimSpace(l.cmd.ProcessState.String())
		}
	}
}

// listen takes one message. What is no message, or one that a worker does not
// send, ends the worker: it is broken or in strange hands.
func (m *Monitor) listen(l *life, h heard, requests chan<- heard, kill func(string)) {
	switch {
	case errors.Is(h.err, io.EOF):
		return // it is about to end
	case h.err != nil:
		kill("killed: " + h.err.Error())
		return
	}
	switch h.m.(type) {
	case *control.Heartbeat:
	case *control.Ready:
		if !l.ready {
			l.ready = true
			m.notify(daemon.SdNotifyReady)
			m.log.Info("the worker is ready", "pid", l.cmd.Process.Pid, "restarts", m.restarts)
		}
	case *control.Publish, *control.Withdraw, *control.InstallKeys, *control.RemoveKeys, *control.Reconfigured,
		*control.CheckPassword, *control.Admit:
		select {
		case requests <- h:
		default: // a sound worker waits for its answers
			if h.file != nil {
				_ = h.file.Close()
			}
			_ = l.conn.Send(h.number, (&control.Answer{}).Of(fault.New(fault.Exhausted, "too many requests at once")), nil)
		}
	default:
		kill("killed: it sent " + h.m.Verb().String())
	}
}
