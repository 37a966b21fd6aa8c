// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) accessCommand() *cobra.Command {
	cmd := family("access", "Say who may use which service of this machine")
	cmd.Long = `Say who may use which service of this machine.

A service that may give a shell (sshd, login, su, sudo and every one that is not
listed here) is closed to every domain user until a rule allows it. samba and web are
open until a rule says otherwise; with a rule that allows, they are for those it
names. A rule that denies beats every rule that allows.

WHO is "*" for every domain user, a user in any form of name, "%group", or a SID. A
rule belongs to the person or group, not to the name: a rename keeps it, and somebody
else who gets the name later does not have it. Rules for local accounts are not here.`
	list := &cobra.Command{
		Use: "list [SERVICE]", Short: "Show the rules", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAdmin(cmd.Context(), adminTimeout, func(ctx context.Context, c *client.Conn) error {
				return a.accessList(ctx, c, strings.Join(args, ""))
			})
		},
	}
	change := func(use, short string, effect latchkeyv1.AccessRule_Effect, done string) *cobra.Command {
		return &cobra.Command{
			Use: use + " SERVICE WHO...", Short: short, Args: cobra.MinimumNArgs(2),
			Long: short + `.

SERVICE is what PAM calls it (sshd, login, su, su-l, sudo, cron, passwd), samba or web.
WHO is "*" for every domain user, a user in any form of name, "%group", or a SID; quote
what a shell would read itself.`,
			Example: "  latchkey access " + use + " sshd alice\n  latchkey access " + use + " sshd '%NAS Admins'",
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.withAdmin(cmd.Context(), adminTimeout, func(ctx context.Context, c *client.Conn) error {
					return a.accessSet(ctx, c, effect, done, args[0], args[1:])
				})
			},
		}
	}
	cmd.AddCommand(list, a.sudoCommand(),
		change("allow", "Let somebody use a service", latchkeyv1.AccessRule_EFFECT_ALLOW, "may use"),
		change("deny", "Keep somebody from a service; * as SERVICE is every one", latchkeyv1.AccessRule_EFFECT_DENY, "may not use"),
		change("remove", "Take a rule away", latchkeyv1.AccessRule_EFFECT_UNSPECIFIED, "has no rule any longer for"))
	return cmd
}

func (a *app) accessList(ctx context.Context, conn *client.Conn, service string) error {
	resp, err := conn.Access.ListAccessRules(ctx, &latchkeyv1.ListAccessRulesRequest{Service: service})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(object{{"rules", jsonList(resp.GetRules())}})
	}
	if len(resp.GetRules()) == 0 && service != "" {
		fmt.Fprintf(a.out, "There is no rule for %s.\n", tame(service))
		return nil
	}
	if len(resp.GetRules()) == 0 {
		fmt.Fprintln(a.out, "There is no rule: samba and web are open to every domain user, every other service to nobody.")
		return nil
	}
	t := a.table("SERVICE", "EFFECT", "WHO", "SINCE")
	for _, r := range resp.GetRules() {
		if err := t.row(r.GetService(), word(r.GetEffect()), r.GetWho(), r.GetCreateTime().AsTime().Local().Format("2006-01-02 15:04")); err != nil {
			return err
		}
	}
	return t.flush()
}

func (a *app) accessSet(ctx context.Context, conn *client.Conn, effect latchkeyv1.AccessRule_Effect, done, service string, who []string) error {
	resp, err := conn.Access.SetAccessRules(ctx, &latchkeyv1.SetAccessRulesRequest{Service: service, Effect: effect, Who: who})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(object{{"rules", jsonList(resp.GetRules())}})
	}
	for _, r := range resp.GetRules() {
		what := tame(r.GetService())
		if what == "*" {
			what = "any service"
		}
		fmt.Fprintf(a.out, "%s %s %s\n", tame(r.GetWho()), done, what)
	}
	return nil
}
