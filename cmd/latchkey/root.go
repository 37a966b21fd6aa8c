// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/release"
)

// The exit statuses of the contract.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitMissing = 3
	exitRefused = 4
	exitNoOne   = 5 // the daemon cannot be reached
)

// errInterrupted is what a command ends with when the person at the terminal
// has had enough of it.
var errInterrupted = fault.New(fault.Unreachable, "interrupted")

// quiet ends a command with a status and says nothing: what there was to say
// has been printed.
type quiet int

func (q quiet) Error() string { return fmt.Sprintf("exit status %d", int(q)) }

// app is one run of the command line.
type app struct {
	*console
	json    bool
	began   bool   // the command line was understood
	advised string // the remedy that a step has printed already
	endless bool   // it goes on until it is interrupted, which is its good end
	goesOn  string // what to know about a task that is interrupted
}

// run runs one command line and returns the exit status.
func run(ctx context.Context, args []string, c *console) int {
	a := &app{console: c}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	err := root.ExecuteContext(ctx)
	if ctx.Err() != nil && a.endless {
		err = nil
	} else if ctx.Err() != nil && err != nil {
		err = fault.WithRemedy(errInterrupted, a.goesOn)
	}
	a.complain(err)
	return a.status(err)
}

// newRoot builds the tree of commands.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "latchkey",
		Short: "People and groups of a Microsoft Entra Domain Services domain on this machine",
		Long: `latchkey knows the people and groups of a Microsoft Entra Domain Services domain,
gives them names and numbers on this machine, and keeps them while the domain
cannot be reached.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused,
5 the daemon cannot be reached.`,
		Version:       release.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetVersionTemplate("latchkey {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print JSON, for programs: one object, or one per line where a command goes on")
	flags.StringVar(&a.apiSocket, "api-socket", a.apiSocket, "the daemon's socket for everybody")
	flags.StringVar(&a.adminSocket, "admin-socket", a.adminSocket, "the daemon's socket for administrators")
	for _, hidden := range []string{"api-socket", "admin-socket"} {
		_ = flags.MarkHidden(hidden) // fails for a flag that does not exist
	}
	root.AddCommand(
		a.joinCommand(), a.leaveCommand(), a.statusCommand(), a.syncCommand(), a.doctorCommand(),
		a.userCommand(), a.groupCommand(), a.searchCommand(), a.resolveCommand(), a.watchCommand(),
		a.loginCommand(), a.accessCommand(), a.auditCommand(), a.sshKeysCommand(), a.machineCommand(), a.idsCommand(), a.sambaCommand(), a.ssoCommand(), a.sessionCommand(), a.configCommand(), a.versionCommand(),
	)
	a.usage(root)
	exemplify(root)
	return root
}

// family is a command that has commands below it and does nothing by itself.
func family(name, short string) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
}

// usage makes the complaint about a wrong number of arguments show the right one,
// and notes where a command begins: what fails before, flags that do not go
// together included, is wrong usage.
func (a *app) usage(c *cobra.Command) {
	if work := c.RunE; work != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			a.began = true
			return work(cmd, args)
		}
	}
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil || cmd.HasSubCommands() {
				return err
			}
			return &fault.Error{Kind: fault.Malformed, Op: "wrong number of arguments", Remedy: "usage: " + cmd.UseLine() + "\nsee `" + cmd.CommandPath() + " --help`"}
		}
	}
	for _, sub := range c.Commands() {
		a.usage(sub)
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]any{"version": release.Version})
			}
			fmt.Fprintln(a.out, "latchkey", release.Version)
			return nil
		},
	}
}

// api connects to the socket for everybody.
func (a *app) api(ctx context.Context) (*client.Conn, error) { return client.DialAPI(ctx, a.apiSocket) }

// admin connects to the socket for administrators.
func (a *app) admin(ctx context.Context) (*client.Conn, error) {
	return client.DialAdmin(ctx, a.adminSocket)
}

// complain prints what failed, why, and what to do next.
func (a *app) complain(err error) {
	var q quiet
	if err == nil || errors.As(err, &q) {
		return
	}
	fmt.Fprintf(a.err, "latchkey: %s\n", strings.ReplaceAll(brief(err), "\n", "\n    "))
	switch remedy := fault.Remedy(err); {
	case remedy != "" && remedy != a.advised:
		fmt.Fprintf(a.err, "    %s\n", strings.ReplaceAll(remedy, "\n", "\n    "))
	case !a.began:
		fmt.Fprintf(a.err, "    see `latchkey --help`\n")
	}
}

// brief is the error's text; of a daemon that is not there without what lies
// under it, which is for programmers.
func brief(err error) string {
	var f *fault.Error
	if client.NotReachable(err) && errors.As(err, &f) && f.Op != "" {
		return f.Op
	}
	return err.Error()
}

// status gives the exit status of the contract for an error.
func (a *app) status(err error) int {
	var q quiet
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &q):
		return int(q)
	case !a.began:
		return exitUsage
	case client.NotReachable(err):
		return exitNoOne
	case errors.As(err, &config.Mistakes{}) && fault.Is(err, fault.Malformed): // the command line was right, the file is not
		return exitFailed
	}
	switch fault.KindOf(err) {
	case fault.Malformed:
		return exitUsage
	case fault.NotFound:
		return exitMissing
	case fault.BadCredential, fault.Locked, fault.Disabled, fault.Expired, fault.MustChange, fault.Denied, fault.Conflict:
		return exitRefused
	}
	return exitFailed
}
