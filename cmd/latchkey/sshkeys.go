// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) sshKeysCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ssh-keys NAME",
		Short: "Print the public SSH keys of a user, for sshd",
		Long: `Print the public keys that the directory has for a user, one a line, as sshd's
AuthorizedKeysCommand wants them. The attribute is named by directory.ssh_keys; without
it nobody has any. Nothing is printed, and that is no error, for a name that is nobody's
of the domain and for an account that is disabled or has expired.

In sshd_config:

    AuthorizedKeysCommand /usr/bin/latchkey ssh-keys -- %u
    AuthorizedKeysCommandUser nobody`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := a.api(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			resp, err := conn.Identity.ListSshKeys(cmd.Context(), &latchkeyv1.ListSshKeysRequest{
				User: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: args[0]}}})
			// sshd asks for every name that anybody types.
			if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Malformed) {
				resp, err = &latchkeyv1.ListSshKeysResponse{}, nil
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(jsonOf(resp))
			}
			for _, k := range resp.GetKeys() {
				fmt.Fprintln(a.out, tame(k))
			}
			return nil
		},
	}
}
