// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/join"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/store"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// How long the keeper of the machine's key sleeps at most (clocks are set), and
// how long it waits when a join or leave is under way.
const (
	keySleep = time.Hour
	keyBusy  = time.Minute
	keyAging = 45 * 24 * time.Hour // older than that is worth a word
)

// secrets are the machine's passwords for a session: the one that counts, then
// one whose change was interrupted, then the one before, which a domain
// controller that has not heard of the last change still has.
func secrets(m *store.Machine) (kerberos.Secret, []kerberos.Secret) {
	var others []kerberos.Secret
	if m.PendingPassword.Len() > 0 {
		others = append(others, kerberos.Password(m.PendingPassword))
	}
	if m.PreviousPassword.Len() > 0 {
		others = append(others, kerberos.Password(m.PreviousPassword))
	}
	return kerberos.Password(m.Password), others
}

// rotated tells those who keep the machine's password in memory, and those who
// have channels under it.
func (d *Daemon) rotated(ctx context.Context) {
	d.turn.Lock() // no membership begins with the old one meanwhile
	defer d.turn.Unlock()
	m := d.current()
	machine, err := d.store.Machine(ctx)
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			d.log.Error("the machine's new password cannot be read", "error", err)
		}
		return
	}
	defer machine.Wipe()
	if m == nil {
		return
	}
	with, others := secrets(machine)
	m.session.SetSecret(with, others...)
	m.netlogon.Rekey()
}

// Rotate changes the machine's key now.
func (d *Daemon) Rotate(ctx context.Context, progress grpcapi.Progress) (*latchkeyv1.RotateMachineKeyResponse_Rotation, error) {
	done, err := d.begun()
	if err != nil {
		return nil, err
	}
	defer done()
	return d.rotate(ctx, progress)
}

// rotate is Rotate once no other task is under way.
func (d *Daemon) rotate(ctx context.Context, progress grpcapi.Progress) (*latchkeyv1.RotateMachineKeyResponse_Rotation, error) {
	ctx, cancel := d.detach(ctx)
	defer cancel()
	r, err := d.joiner.Rotate(ctx, d.settings.now().Directory.KeyInterval, func(s join.Step) { progress(step(s)) })
	// Also after a failure: an interrupted change may have left two passwords.
	d.rotated(ctx)
	d.wakeKeeper()
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RotateMachineKeyResponse_Rotation{KeyVersion: int32(r.KVNO), KeyTime: stamp(r.Time), NextTime: stamp(r.Next),
		DomainController: r.DC, Resumed: r.Resumed}, nil
}

// wakeKeeper has the keeper look again when the key is due.
func (d *Daemon) wakeKeeper() {
	select {
	case d.keyKick <- struct{}{}:
	default:
	}
}

// keepKeyYoung changes the machine's key when it is due, until ctx ends. A change
// that was killed in the middle is due at once.
func (d *Daemon) keepKeyYoung(ctx context.Context) {
	for {
		wait := keySleep
		due, err := d.keyDue(ctx)
		switch {
		case fault.Is(err, fault.NotFound):
		case err != nil:
			d.log.Error("it cannot be told when the machine's key is due", "error", err)
		default:
			wait = min(time.Until(due), keySleep)
		}
		if wait <= 0 {
			wait = d.rotateQuietly(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.keyKick:
		case <-time.After(wait):
		}
	}
}

// rotateQuietly is Rotate without anybody who looks. It returns how long to wait
// before looking again.
func (d *Daemon) rotateQuietly(ctx context.Context) time.Duration {
	done, err := d.begun()
	if err != nil {
		return keyBusy
	}
	defer done()
	r, err := d.rotate(ctx, func(*latchkeyv1.Step) {})
	if err != nil && ctx.Err() != nil {
		return keyBusy
	}
	e := audit.Event{Action: audit.RotateKey, Door: "latchkeyd", Caller: "by itself"}
	if e.Outcome, e.Reason = audit.Of(err); err != nil {
		e.Detail = err.Error()
		d.audit.Record(e)
		d.log.Warn("the machine's key was not changed; the present one goes on to work", "error", err, "remedy", fault.Remedy(err))
		return keyBusy
	}
	e.Detail = fmt.Sprintf("key version %d", r.GetKeyVersion())
	d.audit.Record(e)
	return keyBusy / 10 // the record says when
}

// keyDue says when the machine's key is to be changed; fault.NotFound while it
// has none. A time that nobody has planned yet, or that the configuration moved,
// is planned and remembered.
func (d *Daemon) keyDue(ctx context.Context) (time.Time, error) {
	m, err := d.store.Machine(ctx)
	if err != nil {
		return time.Time{}, err
	}
	m.Wipe()
	interval := d.settings.now().Directory.KeyInterval
	switch {
	case m.RotationError != "" && !m.NextRotation.After(time.Now().Add(interval)): // or the clock was wrong when it was planned
		return m.NextRotation, nil
	case !m.PendingTime.IsZero():
		return time.Time{}, nil
	case !m.NextRotation.IsZero() && !m.NextRotation.After(m.KeyTime.Add(interval)):
		return m.NextRotation, nil
	}
	due := join.NextRotation(m.KeyTime, interval)
	return due, d.store.UpdateMachine(ctx, func(now *store.Machine) error {
		now.NextRotation = due
		return nil
	})
}

// fillKey tells of the machine's key what an administrator should know.
func fillKey(m *store.Machine, problem func(id, summary, remedy string, since time.Time)) {
	switch age := time.Since(m.KeyTime); {
	case m.RotationError != "":
		problem("machine-key", "the machine's key could not be changed: "+m.RotationError,
			"it is tried again on "+m.NextRotation.Local().Format(time.DateTime)+"; latchkey machine rotate shows each step", m.PendingTime)
	case !m.PendingTime.IsZero():
		problem("machine-key", "a change of the machine's key was interrupted; it is ended as soon as a domain controller answers", "", m.PendingTime)
	case age > keyAging:
		problem("machine-key", fmt.Sprintf("the machine's key is %d days old", int(age.Hours()/24)), "latchkey machine rotate", m.KeyTime)
	}
}
