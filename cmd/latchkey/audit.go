// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) auditCommand() *cobra.Command {
	req := &latchkeyv1.ReadAuditRequest{}
	var since string
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who tried to sign in, and what administrators changed",
		Long: `Show every attempt to sign in, to use a service and to change a password: the truth,
also where the person was told less; and what administrators change: access rules,
settings, the sign-in with Entra ID, sessions that were ended, the machine's key, numbers,
the membership, deletions that were let go, files in /etc; and who asked for that without
being one. What log rotation has put aside is read as well.

--user finds the events of a person under every name that was typed. --since takes a
time (2026-11-22, "2026-11-22 14:30") or how long ago (90m, 6h, 3d).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.endless = req.GetFollow()
			if since != "" {
				at, err := parseSince(since, a.now())
				if err != nil {
					return err
				}
				req.Since = timestamppb.New(at)
				if !cmd.Flags().Changed("last") {
					req.Last = 0
				}
			}
			conn, err := a.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			stream, err := conn.Machine.ReadAudit(cmd.Context(), req)
			if err != nil {
				return err
			}
			none := true
			err = receive(stream, func(r *latchkeyv1.ReadAuditResponse) error {
				for _, e := range r.GetEvents() {
					if none && !a.json {
						fmt.Fprintln(a.out, auditHeading)
					}
					none = false
					if err := a.auditLine(e); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil && none && !a.json {
				fmt.Fprintln(a.out, "No such attempt is recorded.")
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&req.Follow, "follow", "f", false, "go on with what comes")
	flags.StringVar(&req.User, "user", "", "only of this person: a name in any form, a uid or a SID")
	flags.StringVar(&since, "since", "", "only from this time on, or that long ago")
	flags.StringVar(&req.Outcome, "outcome", "", "only allowed, refused, failed or abandoned")
	flags.Int32Var(&req.Last, "last", 50, "only the last so many; 0: all")
	return cmd
}

// attempts are the actions of people who want in.
var attempts = map[string]bool{"sign-in": true, "account": true, "change-password": true}

// Widths of the columns: a line is printed as it comes, so they cannot follow
// from what is in them.
var auditWidths = []int{19, 9, 20, 12, 15}

var auditHeading = strings.TrimRight(columns("TIME", "OUTCOME", "WHO", "SERVICE", "FROM", "WHAT"), " ")

// columns pads each cell but the last to its width; a longer one pushes.
func columns(cells ...string) string {
	var b strings.Builder
	for i, c := range cells {
		c = tame(c)
		b.WriteString(c)
		if i < len(auditWidths) {
			b.WriteString(strings.Repeat(" ", max(0, auditWidths[i]-utf8.RuneCountInString(c))+2))
		}
	}
	return b.String()
}

func (a *app) auditLine(e *latchkeyv1.AuditEvent) error {
	if a.json {
		return a.printLine(jsonOf(e))
	}
	who := e.GetName()
	switch {
	case who == "" && e.GetAccount() != "":
		who = e.GetAccount()
	case who == "" && e.GetAsked() == "":
		who = dash("")
	case who == "":
		who = "(" + e.GetAsked() + ")"
	case e.GetAsked() != "" && !strings.EqualFold(e.GetAsked(), who):
		who += " (" + e.GetAsked() + ")"
	}
	from := e.GetRemoteHost()
	if from == "" {
		from = e.GetTty()
	}
	if from == "" && !attempts[e.GetAction()] { // an administrator's change: who asked for it
		from, _, _ = strings.Cut(e.GetCaller(), ",")
	}
	what := e.GetAction()
	switch how := e.GetHow(); how {
	case "", what:
	case "explain": // somebody asked whether a sign-in would work; nobody signed in
		what = how
	default:
		what += " by " + how
	}
	if e.GetReason() != "" {
		what += ": " + e.GetReason()
	}
	for _, more := range []string{e.GetRule(), e.GetDetail()} {
		if more != "" && (more != e.GetRule() || e.GetAction() == "access-rule") { // a sign-in's rule is seen by --json
			what += a.sign(" – ", " - ") + more
		}
	}
	colour := red
	switch e.GetOutcome() {
	case "allowed":
		colour = green
	case "abandoned":
		colour = dim
	}
	line := columns(e.GetTime().AsTime().Local().Format(time.DateTime), e.GetOutcome(), who, dash(e.GetService()), dash(from), what)
	if a.colour {
		line = strings.Replace(line, e.GetOutcome(), a.paint(colour, e.GetOutcome()), 1)
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}

// parseSince reads a time, or how long ago.
func parseSince(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	days := time.Duration(0)
	if n, ok := strings.CutSuffix(text, "d"); ok {
		if _, err := fmt.Sscanf(n+"|", "%d|", &days); err == nil && days >= 0 && days < 100_000 {
			return now.Add(-days * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fault.WithRemedy(fault.Errorf(fault.Malformed, "--since: %q is no time", text), `as 2026-11-22, "2026-11-22 14:30", 90m, 6h or 3d`)
}
