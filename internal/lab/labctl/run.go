// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/term"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// runIn runs a command with our own standard streams. At a terminal it gets
// a terminal of the machine, so that shells and password prompts work.
func runIn(ctx context.Context, c *lab.Cmd) error {
	if len(c.Args) == 0 {
		c.Args = []string{"bash", "-l"}
	}
	var result *lab.Result
	var err error
	if term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())) {
		result, err = runTerminal(ctx, c)
	} else {
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
		result, err = c.Run(ctx)
	}
	switch {
	case err != nil:
		return err
	case result.Signal != 0:
		return exitStatus(128 + int(result.Signal))
	case result.Exit != 0:
		return exitStatus(result.Exit)
	}
	return nil
}

func runTerminal(ctx context.Context, c *lab.Cmd) (*lab.Result, error) {
	c.PTY = true
	c.Env = append(c.Env, "TERM="+os.Getenv("TERM"))
	if columns, rows, err := term.GetSize(int(os.Stdin.Fd())); err == nil {
		c.Rows, c.Cols = uint16(rows), uint16(columns)
	}
	process, err := c.Start(ctx)
	if err != nil {
		return nil, err
	}
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return nil, err
	}
	defer term.Restore(int(os.Stdin.Fd()), before)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	go func() {
		for range resized {
			pty.InheritSize(os.Stdin, process.Terminal)
		}
	}()
	go io.Copy(process.Terminal, os.Stdin)
	shown := make(chan struct{})
	go func() {
		io.Copy(os.Stdout, process.Terminal)
		close(shown)
	}()
	result, err := process.Wait()
	<-shown
	return result, err
}
