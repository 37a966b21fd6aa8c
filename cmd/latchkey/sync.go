// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) syncCommand() *cobra.Command {
	req := &latchkeyv1.SyncRequest{}
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Bring the mirror of the domain up to date now",
		Long: `Read what changed in the domain since the last time, or with --full everything.
Where more rows have disappeared at once than directory.max_deletions allows, they
are kept until --accept-deletions says that this is as it should be.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := a.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			stream, err := conn.Admin.Sync(cmd.Context(), req)
			if err != nil {
				return err
			}
			var result *latchkeyv1.SyncResponse_Result
			err = follow(a, stream, func(r *latchkeyv1.SyncResponse) {
				if r.GetResult() != nil {
					result = r.GetResult()
				}
			})
			if err != nil || result == nil {
				return err
			}
			if a.json {
				return a.printLine(object{{"result", jsonOf(result)}})
			}
			kind := "changes"
			if result.GetFull() {
				kind = "everything"
			}
			fmt.Fprintf(a.out, "read %s from %s in %s: %d read, %d new, %d changed, %d gone\n", kind, result.GetDomainController(),
				result.GetDuration().AsDuration().Round(time.Millisecond), result.GetRead(), result.GetAdded(), result.GetChanged(), result.GetRemoved())
			if n := result.GetHeld(); n > 0 {
				fmt.Fprintf(a.out, "%s held back: look at the directory, then `latchkey sync --accept-deletions`\n", count(n, "deletion", "deletions"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&req.Full, "full", false, "read everything again")
	cmd.Flags().BoolVar(&req.AcceptDeletions, "accept-deletions", false, "let go of what the breaker holds back")
	return cmd
}
