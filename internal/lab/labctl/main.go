// SPDX-License-Identifier: Apache-2.0

// Command labctl starts a lab by hand: a domain shaped like Entra Domain
// Services and boxes to try things in. A lab it starts stays until "down".
//
// It never ships. Of this machine it changes the lab's cache and its folder in
// /run; `labctl deps` alone installs something, debootstrap.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// labName is the lab that a command means.
var labName string

// An exitStatus ends labctl with the status of the command it ran.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	var status exitStatus
	if errors.As(err, &status) {
		os.Exit(int(status))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "labctl:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "labctl",
		Short:         "A real Active Directory domain and boxes to try things in",
		SilenceErrors: true, SilenceUsage: true,
	}
	root.PersistentFlags().StringVar(&labName, "name", "lab", "which lab")
	root.AddCommand(checkCommand(), depsCommand(), baseCommand(), pruneCommand(), upCommand(), boxCommand(), rmCommand(), runCommand(), dcCommand(),
		faultCommand("stop-dc", "Shut the domain controller's services down", (*lab.DC).Stop),
		faultCommand("start-dc", "Start the domain controller's services", (*lab.DC).Start),
		faultCommand("kill-dc", "Kill the domain controller's services", (*lab.DC).Kill),
		faultCommand("freeze-dc", "Stop the domain controller in mid-sentence", (*lab.DC).Freeze),
		faultCommand("thaw-dc", "Let a frozen domain controller go on", (*lab.DC).Thaw),
		addDCCommand(), blackholeCommand(), healCommand(), statusCommand(), pidCommand(), downCommand())
	return root
}

func progress() lab.Progress { return lab.PrintProgress(os.Stderr) }

func open() (*lab.Lab, error) { return lab.Open(labName, progress()) }
