// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/monitor/pamcheck"
)

// Limits of the processes that try passwords for the web sign-in.
const (
	maxChecks = 8
	checkTime = time.Minute // a PAM stack that takes longer is killed
)

// checkPassword starts a process that tries one password. It gets the socket and
// nothing else: what is said on it is between the worker and the process. The
// process is root, because pam_unix has to be; its service is fixed.
func (m *Monitor) checkPassword(socket *os.File) error {
	kind, err := unix.GetsockoptInt(int(socket.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return fault.New(fault.Malformed, "the attached file is no packet socket")
	}
	select {
	case m.checks <- struct{}{}:
	default:
		return fault.WithRemedy(fault.New(fault.Exhausted, "too many passwords are being checked"), "try again in a moment")
	}
	done := func() { <-m.checks }
	cmd := &exec.Cmd{Path: m.program, Args: []string{"latchkeyd", "pam-check"}, Dir: "/", Stderr: os.Stderr,
		Env: []string{"PATH=" + systemPath, "LC_ALL=C.UTF-8"}, ExtraFiles: []*os.File{socket},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	if err := cmd.Start(); err != nil {
		done()
		return fault.Wrap(fault.Internal, "start a password check", err)
	}
	timer := time.AfterFunc(checkTime, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	go func() {
		defer done()
		err := cmd.Wait()
		timer.Stop()
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			m.log.Error("a password check has failed", "end", ended.String(),
				"remedy", "see that "+pamcheck.Program+" and /etc/pam.d/"+pamcheck.Service+" are there")
		}
	}()
	return nil
}
