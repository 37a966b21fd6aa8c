// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/sudoers"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// sudoServices are what sudo calls itself when it asks PAM (sudo(8), pam_service
// and pam_login_service as Debian sets them).
var sudoServices = []string{"sudo", "sudo-i"}

func (a *app) sudoCommand() *cobra.Command {
	remove := false
	cmd := &cobra.Command{
		Use:   "sudo [GROUP]",
		Short: "Let the members of a group use sudo, or show which groups may",
		Long: `Let the members of a group run everything as everybody with sudo, by a file in
/etc/sudoers.d that visudo has looked at, and by rules for the services sudo and
sudo-i. Without GROUP: show which groups may.

The group is named to sudo by its number: another group that gets the name later does
not get the right. What is finer than "everything" belongs in a file of your own.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && remove:
				return fault.WithRemedy(fault.New(fault.Malformed, "which group?"), "latchkey access sudo --remove GROUP")
			case len(args) == 0:
				return a.sudoList()
			case !a.root:
				return fault.WithRemedy(fault.New(fault.Denied, "only root may change who uses sudo"), "run it as root")
			case remove:
				return a.sudoRemove(cmd.Context(), args[0])
			}
			return a.withAdmin(cmd.Context(), adminTimeout, func(ctx context.Context, conn *client.Conn) error {
				return a.sudoAdd(ctx, conn, args[0])
			})
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "take the right away again")
	return cmd
}

// sudoers are the machine's files, under the same root as those of Kerberos.
func (a *app) sudoers() sudoers.Files {
	return sudoers.Files{Files: etcfile.Files(a.krb5), Check: func(ctx context.Context, path string) error {
		args := []string{"-c", "-q"}
		if path != "" {
			args = append(args, "-f", path)
		}
		_, err := a.tool(ctx, "visudo", args...)
		return err
	}}
}

func (a *app) sudoList() error {
	all, err := a.sudoers().List()
	if err != nil {
		return err
	}
	if a.json {
		list := make([]any, len(all))
		for i, g := range all {
			list[i] = grantJSON(g)
		}
		return a.printJSON(object{{"groups", list}})
	}
	if len(all) == 0 {
		fmt.Fprintln(a.out, "No group of the domain may use sudo by way of latchkey.")
		return nil
	}
	t := a.table("GROUP", "GID", "SID", "FILE")
	for _, g := range all {
		if err := t.row(g.Name, number(g.GID), g.SID, g.File()); err != nil {
			return err
		}
	}
	return t.flush()
}

func grantJSON(g sudoers.Grant) object {
	return object{{"group", g.Name}, {"gid", g.GID}, {"sid", g.SID}, {"file", g.File()}}
}

func (a *app) sudoAdd(ctx context.Context, conn *client.Conn, who string) error {
	who = strings.TrimPrefix(who, "%")
	g, err := groupOf(ctx, conn, who)
	if err != nil {
		return err
	}
	name := g.GetGroupname()
	if name == "" {
		name = g.GetAccountName()
	}
	if g.GetGid() == 0 {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s is no group of this machine: %s", name, reason(g.GetUnpublishedReason())), "choose a security group")
	}
	grant := sudoers.Grant{GID: g.GetGid(), SID: g.GetSid(), Name: name}
	if err := a.sudoers().Add(ctx, grant); err != nil {
		return err
	}
	a.recorded(ctx, "access sudo "+name, grant.File())
	if err := a.sudoRules(ctx, conn, latchkeyv1.AccessRule_EFFECT_ALLOW, grant.SID); err != nil {
		return fault.Wrap(fault.Unknown, "allow the services sudo and sudo-i", err)
	}
	if a.json {
		return a.printJSON(grantJSON(grant))
	}
	fmt.Fprintf(a.out, "%%%s may use sudo: %s\n", tame(name), grant.File())
	return nil
}

// groupOf finds a group by whatever text may mean.
func groupOf(ctx context.Context, conn *client.Conn, text string) (*latchkeyv1.Group, error) {
	return find(text, identity.KindGroup, func(k *latchkeyv1.Key) (*latchkeyv1.Group, error) {
		return conn.Identity.GetGroup(ctx, &latchkeyv1.GetGroupRequest{Key: k})
	})
}

func (a *app) sudoRules(ctx context.Context, conn *client.Conn, effect latchkeyv1.AccessRule_Effect, sid string) error {
	for _, service := range sudoServices {
		_, err := conn.Access.SetAccessRules(ctx, &latchkeyv1.SetAccessRulesRequest{Service: service, Effect: effect, Who: []string{sid}})
		if effect == latchkeyv1.AccessRule_EFFECT_UNSPECIFIED && fault.Is(err, fault.NotFound) {
			continue // it is gone already, or the group is
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sudoRemove works for a group that the domain does not have any more, and
// while the daemon is not running: a right must be easy to take away.
func (a *app) sudoRemove(ctx context.Context, who string) error {
	files := a.sudoers()
	all, err := files.List()
	if err != nil {
		return err
	}
	who = strings.TrimPrefix(who, "%")
	fits := func(g sudoers.Grant) bool {
		return identity.Fold(g.Name) == identity.Fold(who) || strings.EqualFold(g.SID, who) || number(g.GID) == who
	}
	conn, err := a.admin(ctx)
	if err == nil {
		defer conn.Close()
	} else {
		conn = nil
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	sid := ""
	if conn != nil {
		if g, err := groupOf(ctx, conn, who); err == nil {
			sid = g.GetSid()
		}
	}
	for _, g := range all {
		if sid != "" && g.SID != sid || sid == "" && !fits(g) {
			continue
		}
		if err := files.Remove(g); err != nil {
			return err
		}
		a.recorded(ctx, "access sudo --remove "+g.Name, g.File())
		if conn == nil {
			fmt.Fprintln(a.err, "latchkey: the daemon cannot be reached: the rules for sudo and sudo-i stay until `latchkey access remove`")
		} else if err := a.sudoRules(ctx, conn, latchkeyv1.AccessRule_EFFECT_UNSPECIFIED, g.SID); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(grantJSON(g))
		}
		fmt.Fprintf(a.out, "%%%s may no longer use sudo\n", tame(g.Name))
		return nil
	}
	return fault.WithRemedy(fault.Errorf(fault.NotFound, "%s has no such right", who), "`latchkey access sudo` shows who has")
}
