// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	var passwordStdin, noPassword bool
	cmd := &cobra.Command{
		Use: "login NAME", Short: "Try a sign-in and explain the outcome",
		Long: `Try a sign-in and explain the outcome, step by step: whom the name means, the state of
the account, the access rules for the service, what is known of the password, the
domain controllers, and what this machine remembers for when none answers. Then the
password is checked with the domain. Nothing else happens; no session begins. A wrong
password counts in the domain, once; with --no-password none is asked for or tried.

Administrators are told the truth. Members of the group latchkey-login and the
authenticators of the configuration are told what the person at the door would be.

NAME may be the published name, DOMAIN\name, a UPN with any suffix, name@realm, in any
case: what people type when they sign in.`,
		Example: "  latchkey login alice --service sshd",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			switch {
			case noPassword && passwordStdin:
				return fault.New(fault.Malformed, "--no-password and --password-stdin contradict each other")
			case noPassword:
				return a.explainLogin(cmd.Context(), req)
			}
			return a.login(cmd.Context(), req, passwordStdin)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Service, "service", "sshd", "the service, as PAM calls it; or samba, web")
	f.BoolVar(&passwordStdin, "password-stdin", false, "read the password from the first line of standard input")
	f.BoolVar(&noPassword, "no-password", false, "explain only: no password is asked for or tried")
	return cmd
}

// loginConn connects as an administrator or, failing that, as an authenticator.
func (a *app) loginConn(ctx context.Context) (*client.Conn, error) {
	conn, err := a.admin(ctx)
	if fault.Is(err, fault.Denied) {
		if other, failed := a.api(ctx); failed == nil {
			return other, nil
		}
	}
	return conn, err
}

// explain asks what a sign-in depends on; nil steps where the caller may not know.
func explain(ctx context.Context, conn *client.Conn, req *latchkeyv1.AuthenticateRequest) (*latchkeyv1.ExplainResponse, error) {
	resp, err := conn.Login.Explain(ctx, &latchkeyv1.ExplainRequest{Name: req.GetName(), Service: req.GetService(), RemoteHost: req.GetRemoteHost()})
	if err == nil && len(resp.GetSteps()) == 1 && resp.GetSteps()[0].GetTopic() == latchkeyv1.ExplainResponse_Step_TOPIC_SIGN_IN {
		resp.Steps = nil
	}
	return resp, err
}

// explainLogin is `latchkey login --no-password`.
func (a *app) explainLogin(ctx context.Context, req *latchkeyv1.AuthenticateRequest) error {
	conn, err := a.loginConn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	resp, err := explain(ctx, conn, req)
	if err != nil {
		return err
	}
	if len(resp.GetSteps()) == 0 {
		return fault.New(fault.Denied, "without the right password only administrators are told anything")
	}
	if a.json {
		o := object{{"service", req.GetService()}, {"steps", stepsOf(resp)}}
		if resp.GetSession() != nil {
			o = append(o, field{"session", jsonOf(resp.GetSession())})
		}
		err = a.printJSON(o)
	} else {
		err = a.loginSteps(resp)
	}
	if err != nil || resp.GetSession() != nil {
		return err
	}
	for _, s := range resp.GetSteps() {
		if s.GetTopic() == latchkeyv1.ExplainResponse_Step_TOPIC_NAME && s.GetVerdict() == latchkeyv1.ExplainResponse_Step_VERDICT_REFUSED {
			return quiet(exitMissing)
		}
	}
	return quiet(exitRefused)
}

// loginSteps prints what a sign-in depends on, a line for each.
func (a *app) loginSteps(resp *latchkeyv1.ExplainResponse) error {
	for _, s := range resp.GetSteps() {
		mark, colour := a.sign("✓", "ok  "), green
		switch s.GetVerdict() {
		case latchkeyv1.ExplainResponse_Step_VERDICT_WARNING, latchkeyv1.ExplainResponse_Step_VERDICT_UNKNOWN:
			mark, colour = a.sign("!", "note"), yellow
		case latchkeyv1.ExplainResponse_Step_VERDICT_REFUSED:
			mark, colour = a.sign("✗", "FAIL"), red
		case latchkeyv1.ExplainResponse_Step_VERDICT_SKIPPED:
			mark, colour = a.sign("–", "-   "), dim
		}
		if _, err := fmt.Fprintf(a.out, "%s %-9s %s\n", a.paint(colour, mark), topicWord(s), tame(s.GetText())); err != nil {
			return err
		}
		if r := s.GetRemedy(); r != "" {
			fmt.Fprintf(a.out, "    %s\n", tame(r))
		}
	}
	return nil
}

// topicWord is what a step is about, for people.
func topicWord(s *latchkeyv1.ExplainResponse_Step) string {
	switch t := s.GetTopic(); t {
	case latchkeyv1.ExplainResponse_Step_TOPIC_BUDGET:
		return "guesses"
	case latchkeyv1.ExplainResponse_Step_TOPIC_KDC:
		return "domain"
	case latchkeyv1.ExplainResponse_Step_TOPIC_NTLM:
		return "NTLM"
	case latchkeyv1.ExplainResponse_Step_TOPIC_SIGN_IN:
		return "sign-in"
	default:
		return strings.ToLower(strings.TrimPrefix(t.String(), "TOPIC_"))
	}
}

func stepsOf(resp *latchkeyv1.ExplainResponse) []any {
	all := make([]any, 0, len(resp.GetSteps()))
	for _, s := range resp.GetSteps() {
		all = append(all, jsonOf(s))
	}
	return all
}

func (a *app) login(ctx context.Context, req *latchkeyv1.AuthenticateRequest, passwordStdin bool) error {
	conn, err := a.loginConn(ctx)
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
	steps, err := explain(ctx, conn, req)
	if err != nil {
		return err
	}
	if !a.json {
		if err := a.loginSteps(steps); err != nil {
			return err
		}
	}
	resp, err := conn.Login.Authenticate(ctx, req)
	if a.json {
		o := object{{"service", req.GetService()}, {"steps", stepsOf(steps)}}
		if err == nil {
			o = append(o, field{"session", jsonOf(resp.GetSession())})
		}
		return errors.Join(err, a.printJSON(o))
	}
	if err != nil {
		return err
	}
	s := resp.GetSession()
	u := s.GetUser()
	if len(steps.GetSteps()) > 0 {
		fmt.Fprintln(a.out)
	}
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
