// SPDX-License-Identifier: Apache-2.0

// Command latchkey-pam-check tries one password with the PAM stack of this
// machine, under the fixed service latchkey-web, for the web sign-in.
//
// It is a program of its own because libpam loads modules of C, and whatever
// they bring, into the process that uses it: latchkeyd stays a static program
// that cannot load anything. `latchkeyd pam-check` becomes this program; the
// socket that it inherits says which name and password. It opens no session,
// makes no credentials, and ends after one answer.
package main

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/monitor/pamcheck"
)

// patience bounds the whole check: whoever waits has given up before.
const patience = 50 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "latchkey-pam-check:", err)
		os.Exit(1)
	}
}

func run() error {
	// Nobody may look into a process that holds a password.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	time.AfterFunc(patience, func() { os.Exit(1) })
	unix.CloseOnExec(pamcheck.Descriptor)
	file := os.NewFile(pamcheck.Descriptor, "request")
	conn, err := net.FileConn(file)
	if err != nil {
		return fmt.Errorf("it is started by latchkeyd only: %w", err)
	}
	_ = file.Close()
	u, ok := conn.(*net.UnixConn)
	if !ok || os.Geteuid() != 0 {
		return fmt.Errorf("it is started by latchkeyd only, as root")
	}
	return pamcheck.Serve(u, check)
}

// check goes through auth and account. Of a conversation, only what asks for
// the password is answered.
func check(r pamcheck.Request) pamcheck.Reply {
	asked := 0
	tx, err := pam.StartFunc(pamcheck.Service, r.Name, func(style pam.Style, _ string) (string, error) {
		switch style {
		case pam.PromptEchoOff:
			if asked++; asked > 1 {
				return "", pam.ErrConv // a second factor, or another try: not by a form
			}
			return string(r.Password.Reveal()), nil
		case pam.PromptEchoOn:
			return r.Name, nil
		}
		return "", nil
	})
	if err != nil {
		return pamcheck.Reply{Code: code(err)}
	}
	defer func() { _ = tx.End() }()
	if r.RemoteHost != "" {
		if err := tx.SetItem(pam.Rhost, r.RemoteHost); err != nil {
			return pamcheck.Reply{Code: code(err)}
		}
	}
	if err := tx.SetItem(pam.Tty, "web"); err != nil {
		return pamcheck.Reply{Code: code(err)}
	}
	if err := tx.Authenticate(pam.Silent | pam.DisallowNullAuthtok); err != nil {
		return pamcheck.Reply{Code: code(err)}
	}
	if err := tx.AcctMgmt(pam.Silent | pam.DisallowNullAuthtok); err != nil {
		return pamcheck.Reply{Code: code(err), Account: true}
	}
	user, err := tx.GetItem(pam.User)
	if err != nil {
		return pamcheck.Reply{Code: code(err), Account: true}
	}
	return pamcheck.Reply{Account: true, User: user}
}

func code(err error) pamcheck.Code {
	if e, ok := err.(pam.Error); ok && e > 0 && e < 256 {
		return pamcheck.Code(e)
	}
	return pamcheck.SystemErr
}
