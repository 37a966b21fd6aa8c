// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// lookupTimeout bounds one lookup; lists have it for each page.
const lookupTimeout = 15 * time.Second

// lookupTries is how often a lookup whose connection is lost is made.
const lookupTries = 3

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

// withAPI runs one short lookup on the socket for everybody. When the
// connection is lost in the middle of it, as when the worker is replaced, it is
// made again: fn prints only what it has all of.
func (a *app) withAPI(ctx context.Context, fn func(context.Context, *client.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	for try := 1; ; try++ {
		conn, err := a.api(ctx)
		if err != nil {
			return err
		}
		err = fn(ctx, conn)
		_ = conn.Close()
		if !client.NotReachable(err) || ctx.Err() != nil || try == lookupTries {
			return err
		}
	}
}

// keysOf returns the keys that text may be meant as, the likeliest first.
func keysOf(text string, kind identity.Kind) ([]*latchkeyv1.Key, error) {
	k, err := identity.ParseKey(text, kind)
	if err != nil {
		return nil, err
	}
	name := &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: text}}
	switch k.Kind {
	case identity.ByUID:
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Uid{Uid: k.ID}}}, nil
	case identity.ByGID:
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Gid{Gid: k.ID}}}, nil
	case identity.BySID:
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Sid{Sid: k.SID.String()}}}, nil
	case identity.ByOID:
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Oid{Oid: k.GUID.String()}}, {Key: &latchkeyv1.Key_ObjectGuid{ObjectGuid: k.GUID.String()}}}, nil
	}
	if strings.HasPrefix(text, "users/") || strings.HasPrefix(text, "groups/") {
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Resource{Resource: text}}, name}, nil
	}
	return []*latchkeyv1.Key{name}, nil
}

// find asks for each key in turn until one is somebody's.
func find[T any](text string, kind identity.Kind, ask func(*latchkeyv1.Key) (T, error)) (found T, err error) {
	keys, err := keysOf(text, kind)
	if err != nil {
		return found, err
	}
	for _, k := range keys {
		if found, err = ask(k); !fault.Is(err, fault.NotFound) {
			break
		}
	}
	if fault.Is(err, fault.NotFound) {
		return found, &fault.Error{Kind: fault.NotFound, Op: fmt.Sprintf("no %s %q", kind, text),
			Remedy: fmt.Sprintf("try `latchkey search %s`; someone who is new in Entra ID appears when the managed domain has them, then within a minute", shellWord(text))}
	}
	return found, err
}

// shellWord puts a word into quotes where a shell would take it apart.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
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
	err = eachGroup(ctx, c, &latchkeyv1.Key{Key: &latchkeyv1.Key_Resource{Resource: u.GetName()}}, func(g *latchkeyv1.Group) error {
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

// listing are the flags of the lists.
type listing struct {
	filter      string
	unpublished bool
}

func (l *listing) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.filter, "filter", "", "only rows with this text in a name, display name, mail address or UPN")
	cmd.Flags().BoolVar(&l.unpublished, "unpublished", false, "only rows without a bare name, with the reason")
}

func (l *listing) publication() latchkeyv1.Publication {
	if l.unpublished {
		return latchkeyv1.Publication_PUBLICATION_UNPUBLISHED
	}
	return latchkeyv1.Publication_PUBLICATION_UNSPECIFIED
}

// pages calls ask with each page token until there are no more pages.
func pages(ctx context.Context, ask func(ctx context.Context, token string) (next string, err error)) error {
	for token := ""; ; {
		page, cancel := context.WithTimeout(ctx, lookupTimeout)
		next, err := ask(page, token)
		cancel()
		if err != nil || next == "" {
			return err
		}
		token = next
	}
}

func (a *app) userList(ctx context.Context, l listing) error {
	conn, err := a.api(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	each := func(item func(*latchkeyv1.User) error) error {
		return pages(ctx, func(ctx context.Context, token string) (string, error) {
			page, err := conn.Identity.ListUsers(ctx, &latchkeyv1.ListUsersRequest{PageSize: 1000, PageToken: token, Filter: l.filter, Publication: l.publication()})
			if err != nil {
				return "", err
			}
			for _, u := range page.GetUsers() {
				if err := item(u); err != nil {
					return "", err
				}
			}
			return page.GetNextPageToken(), nil
		})
	}
	if a.json {
		return a.printList("users", func(item func(proto.Message) error) error {
			return each(func(u *latchkeyv1.User) error { return item(u) })
		})
	}
	if l.unpublished {
		t := a.table("SHOWN AS", "ACCOUNT", "WHY", "DISPLAY NAME", "SID")
		if err := each(func(u *latchkeyv1.User) error {
			return t.row(dash(u.GetUsername()), u.GetAccountName(), reason(u.GetUnpublishedReason()), u.GetDisplayName(), u.GetSid())
		}); err != nil {
			return err
		}
		return t.flush()
	}
	t := a.table("NAME", "UID", "DISPLAY NAME", "UPN", "STATE")
	if err := each(func(u *latchkeyv1.User) error {
		return t.row(dash(userName(u)), number(u.GetUid()), u.GetDisplayName(), u.GetUserPrincipalName(), states(u.GetStates()))
	}); err != nil {
		return err
	}
	return t.flush()
}

// eachGroup calls fn for the groups of a user.
func eachGroup(ctx context.Context, c *client.Conn, user *latchkeyv1.Key, fn func(*latchkeyv1.Group) error) error {
	return pages(ctx, func(ctx context.Context, token string) (string, error) {
		page, err := c.Identity.ListUserGroups(ctx, &latchkeyv1.ListUserGroupsRequest{User: user, PageSize: 1000, PageToken: token})
		if err != nil {
			return "", err
		}
		for _, g := range page.GetGroups() {
			if err := fn(g); err != nil {
				return "", err
			}
		}
		return page.GetNextPageToken(), nil
	})
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
	if a.json {
		return a.printList("groups", func(item func(proto.Message) error) error {
			return eachGroup(ctx, conn, key, func(g *latchkeyv1.Group) error { return item(g) })
		})
	}
	t := a.table("GROUP", "GID", "SCOPE", "SID")
	if err := eachGroup(ctx, conn, key, func(g *latchkeyv1.Group) error {
		return t.row(groupName(g), number(g.GetGid()), scope(g), g.GetSid())
	}); err != nil {
		return err
	}
	return t.flush()
}

// userName is the published name, or what stands for it.
func userName(u *latchkeyv1.User) string {
	if u.GetUsername() != "" {
		return u.GetUsername()
	}
	return u.GetQualifiedName()
}
