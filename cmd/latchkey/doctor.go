// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong, from the configuration to the domain controllers",
		Long: `Look for what is wrong: the configuration, the daemon, its membership and mirror,
nsswitch.conf, the sockets, the published names, room on the disk, the PAM stacks, the
keytabs, the web's certificate, whether a browser's ticket can sign in, shares where they
are switched on, and then what the domain says: DNS, service records, each port of the
domain controllers, the clock, the machine's key and its name there. One line each, with
what to do. What is not switched on is no fault.

Exit status: 0 nothing that matters, 1 something, 5 the daemon is not running.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context()) },
	}
}

// finding is one line of the doctor's.
func (a *app) finding(id, title string, err error, detail string, warn bool) error {
	s := &latchkeyv1.Step{Id: id, Title: title, State: latchkeyv1.Step_STATE_DONE, Detail: detail, Percent: -1}
	if err != nil {
		s.State, s.Detail, s.Remedy = latchkeyv1.Step_STATE_FAILED, brief(err), fault.Remedy(err)
		if warn {
			s.State = latchkeyv1.Step_STATE_WARNING
		}
	}
	return a.step(s)
}

func (a *app) doctor(ctx context.Context) error {
	_, err := config.Load(a.configFile, a.folder)
	if err == nil {
		err = a.readByDaemon(a.configFile)
	}
	bad := err != nil
	if err := a.finding("config", "Configuration", err, "nothing is wrong", false); err != nil {
		return err
	}
	if err := a.finding("nsswitch", "nsswitch.conf names latchkey", checkSwitch(a.nsswitch), "", true); err != nil {
		return err
	}
	conn, err := a.admin(ctx)
	if err != nil {
		if out := a.finding("daemon", "Daemon", err, "", false); out != nil {
			return out
		}
		return quiet(a.status(err))
	}
	defer conn.Close()
	st, err := a.doctorStatus(ctx, conn)
	if err != nil {
		return err
	}
	if st.GetDomain() == "" {
		return a.verdict(true)
	}
	ill, err := a.doctorParts(ctx, conn, st)
	if err != nil {
		return err
	}
	bad = bad || ill
	stream, err := conn.Admin.Join(ctx, &latchkeyv1.JoinRequest{Domain: st.GetDomain(), CheckOnly: true})
	if err != nil {
		return err
	}
	err = follow(a, stream, func(*latchkeyv1.JoinResponse) {})
	if client.NotReachable(err) {
		return err
	}
	return a.verdict(bad || err != nil || !usable(st.GetHealth()))
}

// doctorStatus shows what the daemon says about itself.
func (a *app) doctorStatus(ctx context.Context, conn *client.Conn) (*latchkeyv1.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	st, err := conn.Admin.GetStatus(ctx, &latchkeyv1.GetStatusRequest{})
	if err != nil {
		return nil, err
	}
	if err := a.finding("daemon", "Daemon", nil, "version "+st.GetVersion()+", "+word(st.GetHealth()), false); err != nil {
		return nil, err
	}
	for _, p := range st.GetProblems() {
		problem := &fault.Error{Op: p.GetSummary(), Remedy: p.GetRemedy()}
		if err := a.finding(p.GetId(), "Daemon", problem, "", st.GetHealth() != latchkeyv1.Status_HEALTH_FAILED); err != nil {
			return nil, err
		}
	}
	if st.GetHealth() == latchkeyv1.Status_HEALTH_FAILED { // nobody knows of a membership; the line above says why
		return st, nil
	}
	if st.GetDomain() == "" {
		problem := fault.WithRemedy(fault.New(fault.NotFound, "this machine is in no domain"), "latchkey join DOMAIN --user NAME")
		return st, a.finding("member", "Membership", problem, "", false)
	}
	return st, nil
}

func (a *app) verdict(bad bool) error {
	if bad {
		return quiet(exitFailed)
	}
	return nil
}

// checkSwitch looks whether programs ask latchkey for names (nsswitch.conf(5)).
func checkSwitch(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fault.Wrap(fault.NotFound, "read "+path, err)
	}
	lines := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if name, services, ok := strings.Cut(line, ":"); ok {
			lines[strings.TrimSpace(name)] = strings.Fields(strings.ToLower(strings.ReplaceAll(services, "[", " [")))
		}
	}
	missing := []string{}
	for _, db := range []string{"passwd", "group"} {
		at := slices.Index(lines[db], "latchkey")
		if at < 0 {
			missing = append(missing, db)
			continue
		}
		for _, before := range lines[db][:at] {
			if strings.HasPrefix(before, "[") && strings.Contains(before, "notfound=return") {
				return fault.WithRemedy(fault.Errorf(fault.Conflict, "the line of %s ends at %s, before latchkey is asked", db, strings.ToUpper(before)), "put latchkey before it: \""+db+": files latchkey\"")
			}
		}
	}
	if groups, ok := lines["initgroups"]; ok && len(missing) == 0 && !slices.Contains(groups, "latchkey") {
		return fault.WithRemedy(fault.New(fault.Conflict, "the line initgroups does not, and it decides on the groups of who signs in"), "take that line out, so that the line of group counts")
	}
	if len(missing) == 0 {
		return nil
	}
	return fault.WithRemedy(fault.Errorf(fault.NotFound, "the line of %s does not", strings.Join(missing, " and of ")),
		"ls, id and sshd show no domain users; write \"passwd: files latchkey\" and \"group: files latchkey\"")
}
