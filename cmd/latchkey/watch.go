// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) watchCommand() *cobra.Command {
	req := &latchkeyv1.WatchIdentitiesRequest{}
	var noSnapshot bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show people and groups as they are, then every change as it happens",
		Long: `Show all people and groups, then every change as it happens, until interrupted.
With --resume and the token of an earlier event, only what changed since.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := a.api(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			stream, err := conn.Identity.WatchIdentities(cmd.Context(), req)
			if err != nil {
				return err
			}
			synced := req.GetResumeToken() != ""
			return receive(stream, func(ev *latchkeyv1.WatchIdentitiesResponse) error {
				if ev.GetEvent() == latchkeyv1.WatchIdentitiesResponse_EVENT_SYNCED {
					synced = true
				} else if !synced && noSnapshot {
					return nil
				}
				return a.event(ev, synced)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&req.Users, "users", false, "only people")
	f.BoolVar(&req.Groups, "groups", false, "only groups")
	f.BoolVar(&noSnapshot, "no-snapshot", false, "only changes from now on")
	f.StringVar(&req.ResumeToken, "resume", "", "go on after the event with this token (--json shows them)")
	return cmd
}

// event prints one event. What there was before the watch bears no time.
func (a *app) event(ev *latchkeyv1.WatchIdentitiesResponse, synced bool) error {
	if a.json {
		return a.printLine(jsonOf(ev))
	}
	now := "        "
	if synced {
		now = a.now().Format(time.TimeOnly)
	}
	what := ""
	switch ev.GetEvent() {
	case latchkeyv1.WatchIdentitiesResponse_EVENT_SYNCED:
		_, err := fmt.Fprintln(a.out, now, a.paint(dim, "up to date; changes follow"))
		return err
	case latchkeyv1.WatchIdentitiesResponse_EVENT_UPSERT:
		what = a.paint(green, "+")
	case latchkeyv1.WatchIdentitiesResponse_EVENT_DELETE:
		what = a.paint(red, "-")
	default: // a heartbeat is for programs
		return nil
	}
	u, g := ev.GetIdentity().GetUser(), ev.GetIdentity().GetGroup()
	line := ""
	switch {
	case u != nil:
		line = fmt.Sprintf("user  %s (%s)", tame(userName(u)), number(u.GetUid()))
		if s := states(u.GetStates()); s != "" {
			line += ", " + s
		}
	case g != nil:
		line = fmt.Sprintf("group %s (%s), %s", tame(groupName(g)), number(g.GetGid()), count(int64(g.GetMemberCount()), "person", "people"))
	}
	if ev.GetMembershipChanged() && synced {
		line += ", membership changed"
	}
	_, err := fmt.Fprintln(a.out, now, what, line)
	return err
}
