// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/release"
	"github.com/latchkey-nas/latchkey/internal/store"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// skewLimit is how far the clocks may be apart before it is told: half of what
// Kerberos takes (RFC 4120 5.2.3 suggests five minutes).
const skewLimit = 150 * time.Second

// machine returns the machine's record without its passwords.
func (d *Daemon) machine(ctx context.Context) (*store.Machine, error) {
	m, err := d.store.Machine(ctx)
	if fault.Is(err, fault.NotFound) {
		return nil, errNotJoined
	}
	if err != nil {
		return nil, err
	}
	m.Wipe()
	return m, nil
}

// Status says how the daemon is. It waits for nobody but the disk.
func (d *Daemon) Status(ctx context.Context) (*latchkeyv1.Status, error) {
	welcome := d.opt.Monitor.Welcome()
	st := &latchkeyv1.Status{Version: release.Version, StartTime: stamp(welcome.Started), WorkerRestarts: int64(welcome.Restarts),
		IdMethod: d.settings.now().IDMap.Method}
	problem := func(id, summary, remedy string, since time.Time) {
		st.Problems = append(st.Problems, &latchkeyv1.Problem{Id: id, Summary: summary, Remedy: remedy, Since: stamp(since)})
	}
	if since, err := d.settings.problem(); err != nil {
		problem("config", "the new configuration is not used, the old one stays: "+err.Error(), fault.Remedy(err), since)
	}
	for _, w := range d.settings.now().Warnings {
		problem("config-locked", w.Error(), "remove it there, or the lock in latchkey.toml", time.Time{})
	}
	if d.broken != nil {
		st.Health = latchkeyv1.Status_HEALTH_FAILED
		problem("store", d.broken.Error(), fault.Remedy(d.broken), time.Time{})
		return st, nil
	}
	machine, err := d.machine(ctx)
	switch {
	case fault.Is(err, fault.Conflict):
		st.Health = latchkeyv1.Status_HEALTH_NOT_JOINED
		return st, nil
	case err != nil:
		return nil, err
	}
	d.fillMachine(st, machine)
	fillKey(machine, problem)
	d.fillAdmins(problem)
	if err := d.store.View(ctx, func(v *store.View) error { return fillCounts(st, v) }); err != nil {
		return nil, err
	}
	d.fillMirror(st, problem)
	d.fillNames(st, problem)
	d.fillSignIns(problem)
	d.fillNTLM(problem)
	d.fillSamba(problem)
	d.fillSso(problem)
	d.fillWeb(problem)
	st.Health = health(st)
	return st, nil
}

// health judges what was found.
func health(st *latchkeyv1.Status) latchkeyv1.Status_Health {
	switch {
	case !st.GetMirrorComplete():
		return latchkeyv1.Status_HEALTH_STARTING
	case len(st.GetProblems()) > 0:
		return latchkeyv1.Status_HEALTH_DEGRADED
	}
	return latchkeyv1.Status_HEALTH_SERVING
}

func (d *Daemon) fillMachine(st *latchkeyv1.Status, m *store.Machine) {
	st.Domain, st.Realm, st.NetbiosName, st.DomainSid = m.Domain.DNS, m.Domain.Realm, m.Domain.NetBIOS, m.Domain.SID.String()
	st.ComputerAccount, st.ComputerDn = m.ComputerAccount, m.ComputerDN
	st.KeyVersion, st.KeyTime = int32(m.KVNO), stamp(m.KeyTime)
	st.TenantId, st.People = m.Tenant.String(), latchkeyv1.People(m.People)
	c := d.settings.now().Directory
	if !c.Tenant.IsZero() {
		st.TenantId = c.Tenant.String()
	}
	switch c.People {
	case config.PeopleCloudOnly:
		st.People = latchkeyv1.People_PEOPLE_CLOUD_ONLY
	case config.PeopleHybrid:
		st.People = latchkeyv1.People_PEOPLE_HYBRID
	}
}

func fillCounts(st *latchkeyv1.Status, v *store.View) error {
	c, err := v.Counts()
	if err != nil {
		return err
	}
	st.MirrorComplete = v.Complete()
	st.Users, st.Groups = int64(c.Users), int64(c.Groups)
	st.DisabledUsers, st.Guests = int64(c.Disabled), int64(c.Guests)
	st.UnpublishedUsers, st.UnpublishedGroups = int64(c.UnpublishedUsers), int64(c.UnpublishedGroups)
	st.MovedIds = int64(c.Moved)
	st.UnpublishedReasons = map[string]int64{}
	for why, n := range c.Reasons {
		st.UnpublishedReasons[string(why)] = int64(n)
	}
	return nil
}

func (d *Daemon) fillMirror(st *latchkeyv1.Status, problem func(id, summary, remedy string, since time.Time)) {
	m := d.current()
	if m == nil {
		return
	}
	s := m.mirror.Status()
	st.DomainController = s.DC
	if dc, ok := m.client.DC(); ok {
		st.DomainController, st.DomainControllerAddress = dc.Host, dc.Addr.String()
	}
	st.DomainControllerReachable = s.UnreachableSince.IsZero() && !s.LastSync.IsZero()
	st.UnreachableSince = stamp(s.UnreachableSince)
	st.LastSyncTime, st.LastFullSyncTime = stamp(s.LastSync), stamp(s.LastFull)
	if !s.LastSync.IsZero() {
		st.LastSyncDuration = durationpb.New(s.LastDuration)
		st.ClockSkew = durationpb.New(s.Skew)
	}
	st.LastSyncError, st.HeldDeletions = s.LastError, int64(s.Held)
	switch {
	case !s.UnreachableSince.IsZero():
		what := "no domain controller answers: "
		if s.LastRemedy != "" { // one answered, and said no
			what = "the directory cannot be read: "
		}
		problem("dc-unreachable", what+s.LastError, cmp.Or(s.LastRemedy, "latchkey doctor looks at each of them"), s.UnreachableSince)
	case s.LastError != "":
		problem("sync", "the last synchronisation failed: "+s.LastError, s.LastRemedy, time.Time{})
	}
	if s.Skew.Abs() > skewLimit {
		problem("clock", fmt.Sprintf("the clock of the domain controller is %s from ours; beyond five minutes nobody can sign in", s.Skew.Round(time.Second)),
			"let an NTP client set this machine's clock", time.Time{})
	}
	for _, p := range s.Problems {
		problem(p.ID, p.Summary, p.Remedy, p.Since)
	}
}

// fillNames tells of the published names.
func (d *Daemon) fillNames(st *latchkeyv1.Status, problem func(id, summary, remedy string, since time.Time)) {
	s := d.publisher.State()
	st.SnapshotGeneration, st.SnapshotTime = s.Generation, stamp(s.When)
	if s.Err != nil {
		problem("publish", "names and numbers cannot be published: "+s.Err.Error(), fault.Remedy(s.Err), time.Time{})
	}
	for _, err := range s.Report.Refused {
		problem("publish-row", err.Error(), "report it: the store should not have given that name or number", time.Time{})
	}
	for _, name := range s.Report.Unknown {
		problem("nss-group", fmt.Sprintf("[nss] names the group %q, which does not exist", name), "latchkey group list shows those that do", time.Time{})
	}
}

// stamp is nil for the zero time.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
