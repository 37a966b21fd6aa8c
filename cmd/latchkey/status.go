// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the machine stands in its domain",
		Long: `Show the domain, the domain controller in use, the last synchronisation, how many
users and groups there are, which are not published and why, the age of the
machine's key, and what needs attention.

Exit status: 0 joined and serving, 1 not joined or degraded beyond use,
5 the daemon is not running.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAdmin(cmd.Context(), adminTimeout, a.showStatus)
		},
	}
}

func (a *app) showStatus(ctx context.Context, conn *client.Conn) error {
	st, err := conn.Admin.GetStatus(ctx, &latchkeyv1.GetStatusRequest{})
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(jsonOf(st))
	} else {
		err = a.printStatus(st, a.now())
	}
	if err == nil && !usable(st.GetHealth()) {
		return quiet(exitFailed)
	}
	return err
}

// usable says whether lookups are answered.
func usable(h latchkeyv1.Status_Health) bool {
	return h == latchkeyv1.Status_HEALTH_SERVING || h == latchkeyv1.Status_HEALTH_DEGRADED
}

func (a *app) printStatus(st *latchkeyv1.Status, now time.Time) error {
	colour := red
	switch st.GetHealth() {
	case latchkeyv1.Status_HEALTH_SERVING:
		colour = green
	case latchkeyv1.Status_HEALTH_DEGRADED, latchkeyv1.Status_HEALTH_STARTING:
		colour = yellow
	}
	head := a.paint(colour, a.sign("● ", "* ")+word(st.GetHealth()))
	if st.GetDomain() != "" {
		head += "  " + a.paint(bold, st.GetDomain())
		if st.GetNetbiosName() != "" {
			head += " (" + st.GetNetbiosName() + ")"
		}
	}
	fmt.Fprintln(a.out, head)

	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	if st.GetDomain() != "" {
		a.statusRows(st, now, row)
	} else if st.GetHealth() != latchkeyv1.Status_HEALTH_FAILED { // then nobody knows, and what to do stands below
		row("next", "latchkey join DOMAIN --user NAME")
	}
	version := st.GetVersion()
	if st.GetStartTime() != nil {
		version += ", running for " + age(now, st.GetStartTime())
	}
	if n := st.GetWorkerRestarts(); n > 0 {
		version += fmt.Sprintf(", worker restarted %s", count(n, "time", "times"))
	}
	row("daemon", "%s", version)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range st.GetProblems() {
		line := a.paint(yellow, a.sign("! ", "! ")) + strings.ReplaceAll(p.GetSummary(), "\n", "\n    ")
		if p.GetSince() != nil {
			line += " (for " + age(now, p.GetSince()) + ")"
		}
		fmt.Fprintln(a.out, line)
		if p.GetRemedy() != "" {
			fmt.Fprintf(a.out, "    %s\n", strings.ReplaceAll(p.GetRemedy(), "\n", "\n    "))
		}
	}
	return nil
}

func (a *app) statusRows(st *latchkeyv1.Status, now time.Time, row func(name, format string, args ...any)) {
	row("computer", "%s", st.GetComputerAccount())
	dc := cmp.Or(st.GetDomainController(), "none yet")
	if st.GetDomainControllerAddress() != "" {
		dc += " (" + st.GetDomainControllerAddress() + ")"
	}
	switch {
	case st.GetUnreachableSince() != nil:
		dc += ", " + a.paint(red, "unreachable for "+age(now, st.GetUnreachableSince()))
	case st.GetDomainControllerReachable() && st.GetClockSkew() != nil && st.GetClockSkew().AsDuration().Abs() >= time.Second:
		dc += fmt.Sprintf(", its clock is %s from ours", st.GetClockSkew().AsDuration().Round(time.Second))
	}
	row("controller", "%s", dc)
	sync := "never"
	if st.GetLastSyncTime() != nil {
		sync = age(now, st.GetLastSyncTime()) + " ago"
		if st.GetLastSyncDuration() != nil {
			sync += ", took " + st.GetLastSyncDuration().AsDuration().Round(time.Millisecond).String()
		}
		if st.GetLastFullSyncTime() != nil {
			sync += "; in full " + age(now, st.GetLastFullSyncTime()) + " ago"
		}
	}
	if e := st.GetLastSyncError(); e != "" {
		sync += "; " + a.paint(red, "then failed: "+e)
	}
	row("last sync", "%s", sync)
	users := fmt.Sprint(st.GetUsers())
	var some []string
	if n := st.GetDisabledUsers(); n > 0 {
		some = append(some, fmt.Sprintf("%d disabled", n))
	}
	if n := st.GetGuests(); n > 0 {
		some = append(some, count(n, "guest", "guests"))
	}
	if len(some) > 0 {
		users += " (" + strings.Join(some, ", ") + ")"
	}
	row("users", "%s", users)
	row("groups", "%d", st.GetGroups())
	if u, g := st.GetUnpublishedUsers(), st.GetUnpublishedGroups(); u+g > 0 {
		var why []string
		for _, reason := range slices.Sorted(maps.Keys(st.GetUnpublishedReasons())) {
			why = append(why, fmt.Sprintf("%d %s", st.GetUnpublishedReasons()[reason], reason))
		}
		row("no bare name", "%s, %s: %s", count(u, "user", "users"), count(g, "group", "groups"), strings.Join(why, ", "))
		row("", "see latchkey user list --unpublished, latchkey group list --unpublished")
	}
	if n := st.GetHeldDeletions(); n > 0 {
		row("held back", "%s; see below", count(n, "deletion", "deletions"))
	}
	ids := st.GetIdMethod()
	if n := st.GetMovedIds(); n > 0 {
		ids += fmt.Sprintf(", %s not where the arithmetic puts them", count(n, "id", "ids"))
	}
	row("ids", "%s", ids)
	if st.GetSnapshotTime() != nil {
		row("names file", "written %s ago", age(now, st.GetSnapshotTime()))
	}
	if st.GetKeyVersion() > 0 {
		key := fmt.Sprintf("version %d", st.GetKeyVersion())
		if st.GetKeyTime() != nil {
			key += ", " + age(now, st.GetKeyTime()) + " old"
		}
		row("machine key", "%s", key)
	}
	if st.GetPeople() != latchkeyv1.People_PEOPLE_UNSPECIFIED || st.GetTenantId() != "" {
		row("tenant", "%s", strings.TrimSpace(strings.ReplaceAll(word(st.GetPeople()), " ", "-")+" "+st.GetTenantId()))
	}
}

// age says how long ago a time was, in the one unit that matters.
func age(now time.Time, t *timestamppb.Timestamp) string {
	d := max(now.Sub(t.AsTime()), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// count says "1 user" and "2 users".
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
