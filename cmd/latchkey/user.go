// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

const nameForms = `NAME may be the published name, DOMAIN\name, a UPN with any suffix, name@realm, in any
case; a number; a SID; or an Entra object id.`

func (a *app) userCommand() *cobra.Command {
	cmd := family("user", "Look up people")
	var list listing
	get := &cobra.Command{
		Use: "get NAME|UID|SID|OID|UPN", Short: "Show one person, with everything that is known", Long: "Show one person, with everything that is known.\n\n" + nameForms,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAPI(cmd.Context(), func(ctx context.Context, c *client.Conn) error { return a.userGet(ctx, c, args[0]) })
		},
	}
	ls := &cobra.Command{
		Use: "list", Short: "List people", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.userList(cmd.Context(), list) },
	}
	list.flags(ls)
	groups := &cobra.Command{
		Use: "groups NAME", Short: "List the groups of a person, nested ones included", Long: "List the groups of a person, nested ones included.\n\n" + nameForms,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.userGroups(cmd.Context(), args[0]) },
	}
	cmd.AddCommand(get, ls, groups)
	return cmd
}

func (a *app) userGet(ctx context.Context, c *client.Conn, text string) error {
	u, err := find(text, identity.KindUser, func(k *latchkeyv1.Key) (*latchkeyv1.User, error) {
		return c.Identity.GetUser(ctx, &latchkeyv1.GetUserRequest{Key: k})
	})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(jsonOf(u))
	}
	var groups []string
	primary := ""
	err = groupsOf(ctx, c, &latchkeyv1.Key{Key: &latchkeyv1.Key_Resource{Resource: u.GetName()}})(func(g *latchkeyv1.Group) error {
		if g.GetGid() == u.GetGid() && g.GetGid() != 0 {
			primary = groupName(g)
		}
		groups = append(groups, groupName(g))
		return nil
	})
	if err != nil {
		return err
	}
	r := a.record()
	r.row("name", u.GetUsername())
	r.row("display name", u.GetDisplayName())
	r.row("uid", number(u.GetUid()))
	r.row("gid", strings.TrimSpace(number(u.GetGid())+" "+primary))
	r.row("state", states(u.GetStates()))
	r.refusal(u.GetUnpublishedReason(), u.GetUsername())
	r.row("UPN", u.GetUserPrincipalName())
	r.row("mail", u.GetMail())
	r.row("account", u.GetQualifiedName())
	r.row("aliases", strings.Join(u.GetAliases(), ", "))
	r.row("gecos", u.GetGecos())
	r.row("home", u.GetHome())
	r.row("shell", u.GetShell())
	r.row("groups", some(groups, 12, "latchkey user groups "+shellWord(text)))
	r.row("SID", u.GetSid())
	r.row("past SIDs", strings.Join(u.GetPastSids(), ", "))
	r.row("SID history", strings.Join(u.GetHistorySids(), ", "))
	r.row("object id", u.GetOid())
	r.row("objectGUID", u.GetObjectGuid())
	r.row("DN", u.GetDistinguishedName())
	if u.GetPasswordSetTime() != nil {
		r.row("password set", u.GetPasswordSetTime().AsTime().Local().Format("2006-01-02 15:04"))
	}
	if u.GetAccountExpireTime() != nil {
		r.row("expires", u.GetAccountExpireTime().AsTime().Local().Format("2006-01-02 15:04"))
	}
	r.row("row", u.GetName())
	return r.flush()
}

func (a *app) userList(ctx context.Context, l listing) error {
	conn, err := a.api(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	users := paged(ctx, func(ctx context.Context, token string) (*latchkeyv1.ListUsersResponse, error) {
		return conn.Identity.ListUsers(ctx, &latchkeyv1.ListUsersRequest{PageSize: 1000, PageToken: token, Filter: l.filter, Publication: l.publication()})
	}, (*latchkeyv1.ListUsersResponse).GetUsers)
	if l.unpublished {
		return printAll(a, "users", users, unpublishedHeading, func(u *latchkeyv1.User) []string {
			return []string{dash(u.GetUsername()), u.GetAccountName(), reason(u.GetUnpublishedReason()), u.GetDisplayName(), u.GetSid()}
		})
	}
	return printAll(a, "users", users, []string{"NAME", "UID", "DISPLAY NAME", "UPN", "STATE"}, func(u *latchkeyv1.User) []string {
		return []string{dash(userName(u)), number(u.GetUid()), u.GetDisplayName(), u.GetUserPrincipalName(), states(u.GetStates())}
	})
}

// groupsOf lists the groups of a user.
func groupsOf(ctx context.Context, c *client.Conn, user *latchkeyv1.Key) lister[*latchkeyv1.Group] {
	return paged(ctx, func(ctx context.Context, token string) (*latchkeyv1.ListUserGroupsResponse, error) {
		return c.Identity.ListUserGroups(ctx, &latchkeyv1.ListUserGroupsRequest{User: user, PageSize: 1000, PageToken: token})
	}, (*latchkeyv1.ListUserGroupsResponse).GetGroups)
}

func (a *app) userGroups(ctx context.Context, text string) error {
	conn, err := a.api(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	key, err := find(text, identity.KindUser, func(k *latchkeyv1.Key) (*latchkeyv1.Key, error) {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		_, err := conn.Identity.ListUserGroups(ctx, &latchkeyv1.ListUserGroupsRequest{User: k, PageSize: 1})
		return k, err
	})
	if err != nil {
		return err
	}
	return printAll(a, "groups", groupsOf(ctx, conn, key), []string{"GROUP", "GID", "SCOPE", "SID"}, func(g *latchkeyv1.Group) []string {
		return []string{groupName(g), number(g.GetGid()), scope(g), g.GetSid()}
	})
}

// userName is the published name, or what stands for it.
func userName(u *latchkeyv1.User) string {
	if u.GetUsername() != "" {
		return u.GetUsername()
	}
	return u.GetQualifiedName()
}
