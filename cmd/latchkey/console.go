// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/smbconf"
)

// maxPassword is the longest password that is read. AD takes 256 characters.
const maxPassword = 1024

// console is where a command speaks and listens, and what it may touch.
type console struct {
	in       io.Reader
	out, err io.Writer

	people bool // a person sits at it: standard input and output are a terminal
	live   bool // output may overwrite its own last line
	colour bool
	utf8   bool
	width  int

	now func() time.Time
	// password asks at the terminal, without an echo.
	password func(ctx context.Context, prompt string) (secret.Bytes, error)

	root        bool   // we are root: /etc is ours to write
	rootUID     uint32 // 0; tests are somebody else
	krb5        krb5conf.Files
	smb         smbconf.Files
	tool        func(ctx context.Context, name string, args ...string) (string, error) // runs a program of Samba's
	statfs      func(path string, into *unix.Statfs_t) error                           // the file system of a path
	proc        string                                                                 // where the processes are listed
	daemonUID   uint32                                                                 // whom root's half of the daemon runs as
	apiSocket   string
	adminSocket string
	configFile  string
	folder      string
	nsswitch    string
}

// terminal returns the console of this process.
func terminal() *console {
	tty := term.IsTerminal(int(os.Stdout.Fd()))
	dumb := os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == ""
	c := &console{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		people: tty && term.IsTerminal(int(os.Stdin.Fd())),
		live:   tty && !dumb,
		colour: tty && !dumb && os.Getenv("NO_COLOR") == "",
		utf8:   isUTF8(),
		width:  80,
		now:    time.Now,
		root:   os.Geteuid() == 0,

		apiSocket:   config.RunDir + "/api.sock",
		adminSocket: config.RunDir + "/admin.sock",
		configFile:  config.File,
		folder:      config.Folder,
		nsswitch:    "/etc/nsswitch.conf",
		tool:        runTool,
		statfs:      unix.Statfs,
		proc:        "/proc",
	}
	if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && w > 20 {
		c.width = w
	}
	c.password = c.askTerminal
	return c
}

// isUTF8 says whether the locale can show more than ASCII (locale(7)). A NAS
// whose locale says nothing gets ASCII.
func isUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// askTerminal reads a password from the controlling terminal, not from standard
// input, which may be a pipe. The terminal gets its echo back whatever happens.
func (c *console) askTerminal(ctx context.Context, prompt string) (secret.Bytes, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return secret.Bytes{}, &fault.Error{Kind: fault.Malformed, Op: "ask for the password", Err: errors.New("there is no terminal"),
			Remedy: "give it on standard input with --password-stdin"}
	}
	defer tty.Close()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return secret.Bytes{}, fault.Wrap(fault.Internal, "ask for the password", err)
	}
	// Before the prompt: what answers it may be a program, and faster than we.
	defer func() { _ = term.Restore(int(tty.Fd()), before) }()
	if err := hush(tty); err != nil {
		return secret.Bytes{}, fault.Wrap(fault.Internal, "ask for the password", err)
	}
	fmt.Fprint(tty, prompt)
	type answer struct {
		b   []byte
		err error
	}
	got := make(chan answer, 1)
	go func() {
		b, err := term.ReadPassword(int(tty.Fd()))
		got <- answer{b, err}
	}()
	select {
	case a := <-got:
		fmt.Fprintln(tty)
		if a.err != nil {
			return secret.Bytes{}, fault.Wrap(fault.Malformed, "ask for the password", a.err)
		}
		return secret.Own(a.b), nil
	case <-ctx.Done():
		fmt.Fprintln(tty)
		return secret.Bytes{}, errInterrupted
	}
}

// hush turns a terminal's echo off.
func hush(tty *os.File) error {
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	state.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, state)
}

// readPassword takes a password from the first line of standard input where
// stdin is set, from the terminal otherwise.
func (c *console) readPassword(ctx context.Context, stdin bool, prompt string) (secret.Bytes, error) {
	if !stdin {
		if !c.people {
			return secret.Bytes{}, &fault.Error{Kind: fault.Malformed, Op: "ask for the password", Err: errors.New("there is no terminal to ask at"),
				Remedy: "give it on standard input with --password-stdin"}
		}
		return c.password(ctx, prompt)
	}
	line := make([]byte, 0, maxPassword+2)
	one := make([]byte, 1)
	for len(line) < cap(line) {
		n, err := c.in.Read(one)
		if n == 1 && one[0] == '\n' {
			break
		}
		line = append(line, one[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			secret.Wipe(line)
			return secret.Bytes{}, fault.Wrap(fault.Malformed, "read the password", err)
		}
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	switch {
	case len(line) == 0:
		return secret.Bytes{}, fault.New(fault.Malformed, "the password on standard input is empty")
	case len(line) > maxPassword:
		secret.Wipe(line)
		return secret.Bytes{}, fault.Errorf(fault.Malformed, "the password on standard input is longer than %d bytes", maxPassword)
	}
	return secret.Own(line), nil
}

// ask puts a question to the person at the terminal and returns the line that
// they type, without blanks around it; empty at the end of input.
func (c *console) ask(ctx context.Context, question string) (string, error) {
	fmt.Fprint(c.out, question)
	got := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(c.in).ReadString('\n')
		got <- line
	}()
	select {
	case line := <-got:
		return strings.TrimSpace(line), nil
	case <-ctx.Done():
		fmt.Fprintln(c.out)
		return "", errInterrupted
	}
}

// Colours, and the marks of steps.
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	dim    = "\x1b[2m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

func (c *console) paint(colour, text string) string {
	if !c.colour || text == "" {
		return text
	}
	return colour + text + plain
}

// sign returns the first for a terminal that can show it, the second otherwise.
func (c *console) sign(rich, poor string) string {
	if c.utf8 {
		return rich
	}
	return poor
}
