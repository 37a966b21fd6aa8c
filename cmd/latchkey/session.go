// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) sessionCommand() *cobra.Command {
	cmd := family("session", "See and end the sessions of browsers")
	list := &cobra.Command{
		Use: "list [NAME]", Short: "Show who is signed in, the last used session first", Args: cobra.MaximumNArgs(1),
		Long: "Show who is signed in by a browser, the last used session first: everybody, or one\nperson.\n\n" + nameForms,
	}
	req := &latchkeyv1.ListSessionsRequest{}
	list.Flags().StringVar(&req.App, "app", "", "only of this app")
	list.Flags().StringVar(&req.LocalAccount, "local", "", "of an account of this machine")
	list.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withAdmin(cmd.Context(), adminTimeout, func(ctx context.Context, c *client.Conn) error {
			return a.sessionList(ctx, c, req, strings.Join(args, ""))
		})
	}
	var user, local string
	end := &cobra.Command{
		Use: "revoke ID... | --user NAME | --local ACCOUNT", Short: "End sessions at once", Args: cobra.ArbitraryArgs,
		Long: "End sessions at once: those that are named as `latchkey session list` shows them, or\nevery one of a person. The apps' sessions that came of one end with it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(len(args) > 0, user != "", local != ""); err != nil {
				return err
			}
			return a.withAdmin(cmd.Context(), adminTimeout, func(ctx context.Context, c *client.Conn) error {
				return a.sessionRevoke(ctx, c, args, user, local)
			})
		},
	}
	end.Flags().StringVar(&user, "user", "", "every session of this person")
	end.Flags().StringVar(&local, "local", "", "every session of this account of the machine")
	cmd.AddCommand(list, end)
	return cmd
}

func (a *app) sessionList(ctx context.Context, conn *client.Conn, req *latchkeyv1.ListSessionsRequest, name string) error {
	ask := func(k *latchkeyv1.Key) (*latchkeyv1.ListSessionsResponse, error) {
		req.User = k
		return conn.Sso.ListSessions(ctx, req)
	}
	var resp *latchkeyv1.ListSessionsResponse
	var err error
	if name == "" {
		resp, err = ask(nil)
	} else {
		resp, err = find(name, identity.KindUser, ask)
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(jsonOf(resp))
	}
	if len(resp.GetSessions()) == 0 {
		fmt.Fprintln(a.out, "There is no session.")
		return nil
	}
	when := func(t *timestamppb.Timestamp) string { return t.AsTime().Local().Format("2006-01-02 15:04") }
	t := a.table("ID", "WHO", "HOW", "APP", "FROM", "SINCE", "LAST USED", "ENDS")
	for _, s := range resp.GetSessions() {
		if err := t.row(s.GetSessionId(), s.GetUsername(), s.GetHow(), dash(s.GetApp()), dash(s.GetRemoteHost()), when(s.GetCreateTime()), when(s.GetUseTime()), when(s.GetExpireTime())); err != nil {
			return err
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	if more := int(resp.GetTotal()) - len(resp.GetSessions()); more > 0 {
		fmt.Fprintf(a.out, "and %d more\n", more)
	}
	return nil
}

// oneOf refuses to guess whose sessions are meant.
func oneOf(given ...bool) error {
	n := 0
	for _, is := range given {
		if is {
			n++
		}
	}
	if n != 1 {
		return fault.WithRemedy(fault.New(fault.Malformed, "want ids of sessions, --user or --local"), "see `latchkey session revoke --help`")
	}
	return nil
}

func (a *app) sessionRevoke(ctx context.Context, conn *client.Conn, ids []string, user, local string) error {
	var all []*latchkeyv1.RevokeSessionRequest
	if local != "" {
		all = append(all, &latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_LocalAccount{LocalAccount: local}})
	}
	for _, id := range ids {
		all = append(all, &latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_SessionId{SessionId: id}})
	}
	n, errs := uint32(0), []error(nil)
	if user != "" {
		resp, err := find(user, identity.KindUser, func(k *latchkeyv1.Key) (*latchkeyv1.RevokeSessionResponse, error) {
			return conn.Sso.RevokeSession(ctx, &latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_User{User: k}})
		})
		n, errs = n+resp.GetRevoked(), append(errs, err)
	}
	for _, req := range all {
		resp, err := conn.Sso.RevokeSession(ctx, req)
		n, errs = n+resp.GetRevoked(), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(object{{"revoked", n}})
	}
	if n == 0 {
		fmt.Fprintln(a.out, "There was no session to end.")
		return nil
	}
	fmt.Fprintf(a.out, "%s ended.\n", count(int64(n), "session", "sessions"))
	return nil
}
