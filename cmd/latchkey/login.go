// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// loginTimeout bounds one sign-in, silent domain controllers included.
const loginTimeout = 30 * time.Second

func (a *app) loginCommand() *cobra.Command {
	req := &latchkeyv1.AuthenticateRequest{}
	var passwordStdin bool
	cmd := &cobra.Command{
		Use: "login NAME", Short: "Try a sign-in and explain the outcome",
		Long: `Try a sign-in and explain the outcome: the password is checked with the domain, and
the access rules are asked for the service. Nothing else happens; no session begins.
A wrong password counts in the domain, once.

Administrators are told the truth. Members of the group latchkey-login and the
authenticators of the configuration are told what the person at the door would be.

` + nameForms,
		Example: "  latchkey login alice --service sshd",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			return a.login(cmd.Context(), req, passwordStdin)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Service, "service", "sshd", "the service, as PAM calls it; or smb, web")
	f.BoolVar(&passwordStdin, "password-stdin", false, "read the password from the first line of standard input")
	return cmd
}

func (a *app) login(ctx context.Context, req *latchkeyv1.AuthenticateRequest, passwordStdin bool) error {
	conn, err := a.admin(ctx)
	if fault.Is(err, fault.Denied) { // not an administrator; perhaps an authenticator
		var other *client.Conn
		if other, err = a.api(ctx); err == nil {
			conn = other
		}
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	password, err := a.readPassword(ctx, passwordStdin, "Password of "+tame(req.GetName())+": ")
	if err != nil {
		return err
	}
	defer password.Wipe()
	req.Password = password.Reveal()
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	resp, err := conn.Login.Authenticate(ctx, req)
	if err != nil {
		return err
	}
	s := resp.GetSession()
	if a.json {
		return a.printJSON(object{{"service", req.GetService()}, {"session", jsonOf(s)}})
	}
	u := s.GetUser()
	fmt.Fprintf(a.out, "%s may sign in to %s.\n\n", tame(u.GetUsername()), req.GetService())
	r := a.record()
	r.row("User", fmt.Sprintf("%s, uid %d, gid %d", u.GetUsername(), u.GetUid(), u.GetGid()))
	r.row("SID", u.GetSid())
	r.row("Groups", count(int64(len(s.GetGids())), "group", "groups"))
	switch s.GetHow() {
	case latchkeyv1.Session_HOW_OFFLINE:
		r.row("Password", "checked on this machine: no domain controller answers")
	default:
		r.row("Password", "taken by the domain, which proved itself")
	}
	if t := s.GetPasswordExpireTime(); t != nil {
		r.row("Expires", t.AsTime().Local().Format("2006-01-02 15:04"))
	}
	for _, w := range s.GetWarnings() {
		r.row("Told", w)
	}
	r.row("Audit", s.GetAuditId())
	return r.flush()
}
