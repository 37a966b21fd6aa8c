// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) groupCommand() *cobra.Command {
	cmd := family("group", "Look up groups")
	var list listing
	var direct bool
	get := &cobra.Command{
		Use: "get NAME|GID|SID|OID", Short: "Show one group, with everything that is known", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAPI(cmd.Context(), func(ctx context.Context, c *client.Conn) error { return a.groupGet(ctx, c, args[0]) })
		},
	}
	ls := &cobra.Command{
		Use: "list", Short: "List groups", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.groupList(cmd.Context(), list) },
	}
	list.flags(ls)
	members := &cobra.Command{
		Use: "members NAME", Short: "List the people of a group, those of nested groups included", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.groupMembers(cmd.Context(), args[0], direct)
		},
	}
	members.Flags().BoolVar(&direct, "direct", false, "only the members that the directory lists, users and groups")
	check := &cobra.Command{
		Use: "check USER GROUP...", Short: "Say whether a person belongs to each of the groups",
		Long: "Say whether a person belongs to each of the groups, nested groups included.\nExit status 0: to all of them; 4: not to all.", Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAPI(cmd.Context(), func(ctx context.Context, c *client.Conn) error {
				return a.groupCheck(ctx, c, args[0], args[1:])
			})
		},
	}
	cmd.AddCommand(get, ls, members, check)
	return cmd
}

func (a *app) groupGet(ctx context.Context, c *client.Conn, text string) error {
	g, err := find(text, identity.KindGroup, func(k *latchkeyv1.Key) (*latchkeyv1.Group, error) {
		return c.Identity.GetGroup(ctx, &latchkeyv1.GetGroupRequest{Key: k})
	})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(jsonOf(g))
	}
	r := a.record()
	r.row("name", g.GetGroupname())
	r.row("display name", g.GetDisplayName())
	r.row("gid", number(g.GetGid()))
	r.row("kind", scope(g))
	r.row("state", states(g.GetStates()))
	r.refusal(g.GetUnpublishedReason(), g.GetGroupname())
	r.row("people", fmt.Sprint(g.GetMemberCount()))
	r.row("foreign", strings.Join(g.GetForeignMembers(), ", "))
	r.row("mail", g.GetMail())
	r.row("account", g.GetQualifiedName())
	r.row("aliases", strings.Join(g.GetAliases(), ", "))
	r.row("SID", g.GetSid())
	r.row("past SIDs", strings.Join(g.GetPastSids(), ", "))
	r.row("SID history", strings.Join(g.GetHistorySids(), ", "))
	r.row("object id", g.GetOid())
	r.row("objectGUID", g.GetObjectGuid())
	r.row("DN", g.GetDistinguishedName())
	r.row("row", g.GetName())
	return r.flush()
}

func (a *app) groupList(ctx context.Context, l listing) error {
	conn, err := a.api(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	groups := paged(ctx, func(ctx context.Context, token string) (*latchkeyv1.ListGroupsResponse, error) {
		return conn.Identity.ListGroups(ctx, &latchkeyv1.ListGroupsRequest{PageSize: 1000, PageToken: token, Filter: l.filter, Publication: l.publication()})
	}, (*latchkeyv1.ListGroupsResponse).GetGroups)
	if l.unpublished {
		return printAll(a, "groups", groups, unpublishedHeading, func(g *latchkeyv1.Group) []string {
			return []string{dash(g.GetGroupname()), g.GetAccountName(), reason(g.GetUnpublishedReason()), g.GetDisplayName(), g.GetSid()}
		})
	}
	return printAll(a, "groups", groups, []string{"NAME", "GID", "PEOPLE", "KIND", "DISPLAY NAME"}, func(g *latchkeyv1.Group) []string {
		return []string{dash(groupName(g)), number(g.GetGid()), fmt.Sprint(g.GetMemberCount()), scope(g), g.GetDisplayName()}
	})
}

func (a *app) groupMembers(ctx context.Context, text string, direct bool) error {
	conn, err := a.api(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	key, err := find(text, identity.KindGroup, func(k *latchkeyv1.Key) (*latchkeyv1.Key, error) {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		_, err := conn.Identity.GetGroup(ctx, &latchkeyv1.GetGroupRequest{Key: k})
		return k, err
	})
	if err != nil {
		return err
	}
	members := paged(ctx, func(ctx context.Context, token string) (*latchkeyv1.ListGroupMembersResponse, error) {
		return conn.Identity.ListGroupMembers(ctx, &latchkeyv1.ListGroupMembersRequest{Group: key, Direct: direct, PageSize: 1000, PageToken: token})
	}, (*latchkeyv1.ListGroupMembersResponse).GetMembers)
	return printAll(a, "members", members, identityHeading, func(i *latchkeyv1.Identity) []string { return identityRow(i.GetUser(), i.GetGroup()) })
}

// identityHeading is that of a table of users and groups, identityRow one of its
// rows.
var identityHeading = []string{"NAME", "KIND", "ID", "DISPLAY NAME", "SID"}

func identityRow(u *latchkeyv1.User, g *latchkeyv1.Group) []string {
	if u != nil {
		return []string{dash(userName(u)), "user", number(u.GetUid()), u.GetDisplayName(), u.GetSid()}
	}
	return []string{dash(groupName(g)), "group", number(g.GetGid()), g.GetDisplayName(), g.GetSid()}
}

func (a *app) groupCheck(ctx context.Context, c *client.Conn, user string, groups []string) error {
	req := &latchkeyv1.CheckMembershipRequest{}
	for _, g := range groups {
		keys, err := keysOf(g, identity.KindGroup)
		if err != nil {
			return err
		}
		req.Groups = append(req.Groups, keys[0])
	}
	resp, err := find(user, identity.KindUser, func(k *latchkeyv1.Key) (*latchkeyv1.CheckMembershipResponse, error) {
		req.User = k
		return c.Identity.CheckMembership(ctx, req)
	})
	if err != nil {
		return err
	}
	if len(resp.GetMemberships()) != len(groups) {
		return fault.New(fault.Internal, "the daemon answered for another number of groups")
	}
	var failures []error
	all := true
	t := a.table("GROUP", "MEMBER")
	for i, m := range resp.GetMemberships() {
		answer := "no"
		switch {
		case m.GetError() != nil:
			answer = m.GetError().GetMessage()
			failures = append(failures, fault.Errorf(fault.NotFound, "group %q: %s", groups[i], answer))
		case m.GetMember():
			answer = "yes"
		default:
			all = false
		}
		if !a.json {
			if err := t.row(groups[i], answer); err != nil {
				return err
			}
		}
	}
	if a.json {
		err = a.printJSON(jsonOf(resp))
	} else {
		err = t.flush()
	}
	switch {
	case err != nil:
		return err
	case len(failures) > 0:
		return errors.Join(failures...)
	case !all:
		return quiet(exitRefused)
	}
	return nil
}

// groupName is the published name, or what stands for it.
func groupName(g *latchkeyv1.Group) string {
	if g.GetGroupname() != "" {
		return g.GetGroupname()
	}
	return g.GetQualifiedName()
}

// scope says what kind of group it is.
func scope(g *latchkeyv1.Group) string {
	kind := strings.ReplaceAll(word(g.GetScope()), " ", "-")
	if !g.GetSecurity() {
		kind += " distribution"
	}
	return strings.TrimSpace(kind)
}
