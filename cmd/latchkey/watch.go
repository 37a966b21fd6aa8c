// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/fault"
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
			a.endless = true
			return a.watch(cmd.Context(), req, noSnapshot)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&req.Users, "users", false, "only people")
	f.BoolVar(&req.Groups, "groups", false, "only groups")
	f.BoolVar(&noSnapshot, "no-snapshot", false, "only changes from now on")
	f.StringVar(&req.ResumeToken, "resume", "", "go on after the event with this token (--json shows them)")
	return cmd
}

// watchTries is how often in a row a watch begins again without hearing anything.
const watchTries = 3

// watch shows events until ctx ends. When the worker is replaced it goes on
// after the last event; when the daemon is gone it ends.
func (a *app) watch(ctx context.Context, req *latchkeyv1.WatchIdentitiesRequest, noSnapshot bool) error {
	synced := req.GetResumeToken() != ""
	for silent := 0; ; silent++ {
		conn, err := a.api(ctx)
		if err != nil {
			return err
		}
		stream, err := conn.Identity.WatchIdentities(ctx, req)
		if err == nil {
			err = receive(stream, func(ev *latchkeyv1.WatchIdentitiesResponse) error {
				silent, req.ResumeToken = 0, ev.GetResumeToken()
				if ev.GetEvent() == latchkeyv1.WatchIdentitiesResponse_EVENT_SYNCED {
					if synced {
						return nil
					}
					synced = true
				} else if !synced && noSnapshot {
					return nil
				}
				return a.event(ev, synced)
			})
		}
		_ = conn.Close()
		if !fault.Is(err, fault.Unreachable) || ctx.Err() != nil || silent >= watchTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
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
