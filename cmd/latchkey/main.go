// SPDX-License-Identifier: Apache-2.0

//go:build !docs

// Command latchkey is the command line of the daemon latchkeyd: who is who, how
// the machine stands in its domain, and what an administrator does about it.
//
// It asks the daemon over api.sock and admin.sock. As root it also does the few
// things that belong to the administrator: the Kerberos files in /etc after a
// join. It never asks the network, and explains a daemon that does not run
// without one. Passwords come from the terminal or from standard input.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], terminal()))
}
