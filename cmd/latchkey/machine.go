// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) machineCommand() *cobra.Command {
	cmd := family("machine", "Look after the machine's own account in the domain")
	cmd.AddCommand(a.rotateCommand())
	return cmd
}

func (a *app) rotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Give the machine's account a new key now",
		Long: `Give the machine's account a new password, and write the keys of it into both
keytabs. It is done by itself every 30 days at most (directory.key_interval).

Whoever has a ticket for this machine goes on: the two versions before stay in the
keytabs. The new password is remembered before the domain has it, so that a machine
that loses its power in the middle finds out by itself which one counts; a rotation
that was interrupted is ended, not begun anew.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := a.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			a.goesOn = "the daemon goes on with it; `latchkey status` shows the version of the key"
			stream, err := conn.Machine.RotateMachineKey(cmd.Context(), &latchkeyv1.RotateMachineKeyRequest{})
			if err != nil {
				return err
			}
			var done *latchkeyv1.RotateMachineKeyResponse_Rotation
			err = follow(a, stream, func(r *latchkeyv1.RotateMachineKeyResponse) {
				if r.GetRotation() != nil {
					done = r.GetRotation()
				}
			})
			if err != nil || done == nil {
				return err
			}
			if a.json {
				return a.printLine(object{{"rotation", jsonOf(done)}})
			}
			what := "the machine has a new key"
			if done.GetResumed() {
				what = "the interrupted change is ended"
			}
			fmt.Fprintf(a.out, "%s: version %d; the next one comes by %s\n", what, done.GetKeyVersion(), done.GetNextTime().AsTime().Local().Format(time.DateOnly))
			return nil
		},
	}
}
