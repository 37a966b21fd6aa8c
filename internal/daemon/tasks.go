// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/join"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/mirror"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/store"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// taskTime bounds a join or a leave that nobody waits for any more.
const taskTime = 5 * time.Minute

// errNotJoined is what a task that needs a domain comes to without one.
var errNotJoined = fault.WithRemedy(fault.New(fault.Conflict, "this machine is in no domain"), "join one: latchkey join DOMAIN --user NAME")

// detach lets a task go on when its client goes away, as long as the daemon
// lives: half a join helps nobody.
func (d *Daemon) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), taskTime)
	stop := context.AfterFunc(d.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// begun says that a join or a leave may begin, and ends the exclusion by done.
func (d *Daemon) begun() (done func(), err error) {
	if d.broken != nil {
		return nil, d.broken
	}
	if !d.task.TryLock() {
		return nil, fault.WithRemedy(fault.New(fault.Conflict, "another join or leave is under way"), "wait for its end")
	}
	return d.task.Unlock, nil
}

// Join makes this machine a member of a domain, or checks whether it could.
// The first mirror pass belongs to it: when it returns, people are known.
func (d *Daemon) Join(ctx context.Context, req grpcapi.JoinRequest, progress grpcapi.Progress) (*latchkeyv1.JoinResponse_Membership, error) {
	done, err := d.begun()
	if err != nil {
		return nil, err
	}
	defer done()
	tell := func(s join.Step) { progress(step(s)) }
	r := join.Request{Domain: req.Domain, User: req.User, Password: req.Password, DomainControllers: req.DomainControllers,
		DNSServers: req.DNSServers, OU: req.OrganizationalUnit, Hostname: req.Hostname, TenantID: req.TenantID,
		People: join.People(req.People), NoDNSUpdate: req.NoDNSUpdate}
	d.complete(ctx, &r)
	if req.CheckOnly {
		return nil, d.joiner.Check(ctx, r, tell)
	}
	ctx, cancel := d.detach(ctx)
	defer cancel()
	made, err := d.joiner.Join(ctx, r, tell)
	if err != nil {
		return nil, err
	}
	read := make(chan struct{})
	err = d.restart(d.life, func(ctx context.Context, m *mirror.Mirror) {
		defer close(read)
		firstPass(ctx, m, progress)
	})
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "take up the membership", err)
	}
	d.wakeKeeper()
	select {
	case <-read:
		d.shown(ctx) // the next thing that is typed is a name
	case <-ctx.Done(): // the mirror goes on by itself
	}
	return &latchkeyv1.JoinResponse_Membership{Domain: made.Domain, Realm: made.Realm, NetbiosName: made.NetBIOS, DomainSid: made.DomainSID,
		ComputerAccount: made.ComputerAccount, ComputerDn: made.ComputerDN, Fqdn: made.FQDN, DomainController: made.DC,
		KeyVersion: int32(made.KVNO), Kdcs: made.KDCs, Rejoined: made.Rejoined}, nil
}

// complete fills in where to ask from the configuration, or, for the domain
// that the machine is in, from what the join before was told.
func (d *Daemon) complete(ctx context.Context, r *join.Request) {
	c := d.settings.now().Directory
	if machine, err := d.store.Machine(ctx); err == nil {
		machine.Wipe()
		if machine.Domain.DNS == r.Domain {
			c.DNS, c.DomainControllers = servers(&c, machine)
		}
	}
	if len(r.DNSServers) == 0 {
		for _, a := range c.DNS {
			r.DNSServers = append(r.DNSServers, a.String())
		}
	}
	if len(r.DomainControllers) == 0 {
		r.DomainControllers = c.DomainControllers
	}
}

// firstPass reads the domain, so that a join ends with people. A failure is
// told and no end: the mirror tries again by itself.
func firstPass(ctx context.Context, m *mirror.Mirror, progress grpcapi.Progress) {
	const id, title = "mirror", "Read the people and groups of the domain"
	progress(&latchkeyv1.Step{Id: id, Title: title, State: latchkeyv1.Step_STATE_RUNNING, Percent: 100})
	result, err := m.Sync(ctx, mirror.Request{}, func(p mirror.Progress) {
		progress(&latchkeyv1.Step{Id: id, Title: title, State: latchkeyv1.Step_STATE_RUNNING, Detail: soFar(p), Percent: 100})
	})
	if err != nil {
		progress(&latchkeyv1.Step{Id: id, Title: title, State: latchkeyv1.Step_STATE_WARNING, Detail: err.Error(), Remedy: fault.Remedy(err), Percent: 100})
		return
	}
	detail := fmt.Sprintf("%d objects in %s", result.Read, result.Duration.Round(time.Millisecond))
	progress(&latchkeyv1.Step{Id: id, Title: title, State: latchkeyv1.Step_STATE_DONE, Detail: detail, Percent: 100})
}

// shownTime is how long a task waits for the machine's names to say what it read.
const shownTime = 5 * time.Second

// shown waits until every program of the machine sees what the store says.
func (d *Daemon) shown(ctx context.Context) {
	if d.publisher == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, shownTime)
	defer cancel()
	if err := d.publisher.Shown(ctx); err != nil {
		d.log.Warn("the names that were read are not published yet", "error", err)
	}
}

// Leave ends the membership. Rows and their numbers stay for another join; the
// published names go.
func (d *Daemon) Leave(ctx context.Context, req grpcapi.LeaveRequest, progress grpcapi.Progress) error {
	done, err := d.begun()
	if err != nil {
		return err
	}
	defer done()
	if _, err := d.machine(ctx); err != nil {
		return err
	}
	ctx, cancel := d.detach(ctx)
	defer cancel()
	d.turn.Lock()
	defer d.turn.Unlock()
	d.halt() // its session uses the keys that are about to go
	err = d.joiner.Leave(ctx, join.LeaveRequest{User: req.User, Password: req.Password, KeepAccount: req.KeepAccount},
		func(s join.Step) { progress(step(s)) })
	if err != nil {
		return errors.Join(err, d.begin(d.life, nil))
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	// The rows go where rows of people go who are gone: nobody finds them any
	// more, watchers are told, and with another join they come back with their
	// numbers.
	if err := d.store.Update(ctx, (*store.Tx).RetireAll); err != nil {
		return fault.Wrap(fault.Unknown, "put the people of the domain aside", err)
	}
	d.wakeAdmins()
	return fault.Wrap(fault.Unknown, "withdraw the published names", d.opt.Monitor.Call(ctx, &control.Withdraw{}, nil))
}

// step is one to one.
func step(s join.Step) *latchkeyv1.Step {
	return &latchkeyv1.Step{Id: s.ID, Title: s.Title, State: latchkeyv1.Step_State(s.State), Detail: s.Detail, Remedy: s.Remedy, Percent: int32(s.Percent)}
}

// stages of a pass, for people, and what of the whole they begin at in per cent.
var stages = map[mirror.Stage]struct {
	title string
	from  int32
	to    int32
}{
	mirror.StageConnect: {"Connect to a domain controller", 0, 5},
	mirror.StageRead:    {"Read the directory", 5, 60},
	mirror.StageApply:   {"Compare and write", 60, 90},
	mirror.StageSweep:   {"Look for what was deleted", 90, 100},
}

// Sync makes one pass now.
func (d *Daemon) Sync(ctx context.Context, req grpcapi.SyncRequest, progress grpcapi.Progress) (*latchkeyv1.SyncResponse_Result, error) {
	if d.broken != nil {
		return nil, d.broken
	}
	m := d.current()
	if m == nil {
		return nil, errNotJoined
	}
	var last mirror.Stage
	finish := func(state latchkeyv1.Step_State) {
		if last != "" {
			progress(&latchkeyv1.Step{Id: string(last), Title: stages[last].title, State: state, Percent: stages[last].to})
		}
	}
	r, err := m.mirror.Sync(ctx, mirror.Request{Full: req.Full, AcceptDeletions: req.AcceptDeletions}, func(p mirror.Progress) {
		if p.Stage != last {
			finish(latchkeyv1.Step_STATE_DONE)
			last = p.Stage
		}
		progress(&latchkeyv1.Step{Id: string(p.Stage), Title: stages[p.Stage].title, State: latchkeyv1.Step_STATE_RUNNING,
			Detail: soFar(p), Percent: percent(p)})
	})
	if err != nil {
		finish(latchkeyv1.Step_STATE_FAILED)
		return nil, err
	}
	finish(latchkeyv1.Step_STATE_DONE)
	d.shown(ctx)
	return &latchkeyv1.SyncResponse_Result{Full: r.Full, Read: int64(r.Read), Added: int64(r.Added), Changed: int64(r.Changed),
		Removed: int64(r.Removed), Held: int64(r.Held), Duration: durationpb.New(r.Duration), DomainController: r.DC}, nil
}

// soFar says how far a pass is, as "500 of 5502".
func soFar(p mirror.Progress) string {
	n := p.Read
	if p.Stage == mirror.StageApply {
		n = p.Applied
	}
	switch {
	case n == 0:
		return ""
	case p.Total >= n:
		return fmt.Sprintf("%d of %d", n, p.Total)
	}
	return fmt.Sprint(n)
}

// percent places a stage's progress within the whole.
func percent(p mirror.Progress) int32 {
	s := stages[p.Stage]
	n := p.Read
	if p.Stage == mirror.StageApply {
		n = p.Applied
	}
	if p.Total <= 0 || n <= 0 {
		return s.from
	}
	return s.from + (s.to-s.from)*int32(min(n, p.Total))/int32(p.Total)
}

// hostKeys asks root's half for its copy of the host keys.
type hostKeys struct{ monitor Monitor }

// Install implements join.HostKeys.
func (h hostKeys) Install(ctx context.Context, k krb5conf.HostKeys) error {
	return h.monitor.Call(ctx, &control.InstallKeys{Host: control.Host(k.Host), Keytab: k.Keytab}, nil)
}

// Remove implements join.HostKeys.
func (h hostKeys) Remove(ctx context.Context, host krb5conf.Host) error {
	return h.monitor.Call(ctx, &control.RemoveKeys{Host: control.Host(host)}, nil)
}
