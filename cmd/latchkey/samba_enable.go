// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/smbconf"
)

// sambaEnable does its steps one after the other; each leaves behind how it is
// undone, and a step that fails undoes those before it.
func (a *app) sambaEnable(ctx context.Context, smbConf string) (err error) {
	if err := a.needRoot("samba enable"); err != nil {
		return err
	}
	s := &samba{app: a}
	if err := s.ready(ctx, smbConf); err != nil {
		return err
	}
	var undo []func() error
	defer func() {
		if err != nil {
			a.takeBack(undo)
		}
	}()
	record, local, err := s.before(ctx)
	if err != nil {
		return err
	}
	s.askRanges(ctx)
	plan, err := s.smb.Plan(s.settings, record)
	if err != nil {
		return err
	}
	undo = append(undo, func() error { return s.smb.Undo(plan) })
	if err := s.writeFiles(ctx, plan); err != nil {
		return err
	}
	back, err := s.writeSIDs(ctx, record, local)
	undo = append(undo, back...)
	if err != nil {
		return err
	}
	if _, err := s.net(ctx, "cache", "flush"); err != nil {
		return err
	}
	if err := s.done("cache", "Samba's cache of ids", "emptied: what an old winbindd left there is gone"); err != nil {
		return err
	}
	if !s.cfg.Samba.Pipes {
		undo = append(undo, func() error { return s.set(context.WithoutCancel(ctx), "samba.pipes", "") })
		if err := s.set(ctx, "samba.pipes", "true"); err != nil {
			return err
		}
	}
	if err := s.waitPipes(ctx); err != nil {
		return err
	}
	if err := s.done("pipes", "winbind's pipes", s.cfg.Samba.Pipe+", "+s.cfg.Samba.PrivilegedPipe); err != nil {
		return err
	}
	if err := s.remains(ctx); err != nil {
		return err
	}
	if a.json {
		return a.printLine(object{{"samba", object{{"enabled", true}, {"smb_conf", s.smbConf}, {"fragment", smbconf.Fragment}, {"version", s.version},
			{"interface", int(s.protocol)}, {"pipe", s.cfg.Samba.Pipe}, {"privileged_pipe", s.cfg.Samba.PrivilegedPipe}, {"diff", plan.Diff()}}}})
	}
	return nil
}

// ready looks whether it can be enabled at all. Nothing is changed.
func (s *samba) ready(ctx context.Context, smbConf string) error {
	if err := s.ask(ctx); err != nil {
		return err
	}
	if err := s.look(smbConf); err != nil {
		return err
	}
	if err := s.askSamba(ctx); err != nil {
		return err
	}
	if err := s.noWinbindd(); err != nil {
		return err
	}
	if was := s.state.Record.SMBConf; s.state.Made && was != s.smbConf {
		if other, err := s.smb.State(was); err == nil && other.Included {
			return fault.WithRemedy(fault.Errorf(fault.Conflict, "it is enabled already, in %s", was), "latchkey samba disable, then try again")
		}
	}
	return s.done("samba", "Samba", fmt.Sprintf("%s, winbind interface %d; no winbindd runs", s.version, s.protocol))
}

// before notes what disable has to give back, and this machine's own SID in
// Samba, which is made where there was none.
func (s *samba) before(ctx context.Context) (record smbconf.Record, local string, err error) {
	record = s.state.Record
	if !s.state.Made {
		record = smbconf.Record{}
		if record.DomainSID, err = s.sid(ctx, s.settings.Workgroup); err != nil {
			return record, "", err
		}
		if record.LocalSID, err = s.sid(ctx, s.settings.Netbios); err != nil {
			return record, "", err
		}
	}
	record.SMBConf = s.smbConf
	local, err = s.sid(ctx)
	return record, local, err
}

// takeBack undoes what was done, the last first.
func (a *app) takeBack(undo []func() error) {
	a.clearLine()
	var trouble []error
	for _, back := range slices.Backward(undo) {
		trouble = append(trouble, back())
	}
	if worse := errors.Join(trouble...); worse != nil {
		_ = a.finding("rollback", "Take it all back", worse, "", false)
	} else if len(undo) > 0 {
		_ = a.done("rollback", "Take it all back", "everything is as it was")
	}
}

// remains tells what is the administrator's to do.
func (s *samba) remains(ctx context.Context) error {
	if err := checkSwitch(s.nsswitch); err != nil {
		if err := s.finding("nsswitch", "nsswitch.conf names latchkey", err, "", true); err != nil {
			return err
		}
	}
	if _, err := s.lookBoot(ctx); err != nil {
		if err := s.finding("winbindd", "No winbindd", err, "", true); err != nil {
			return err
		}
	}
	return s.tellSmbd("smbd")
}

// writeFiles shows the diff, has the finished file checked before anybody else
// reads it, and puts both files into place.
func (s *samba) writeFiles(ctx context.Context, plan *smbconf.Plan) error {
	if len(plan.Changes()) > 0 && !s.json {
		fmt.Fprint(s.out, plan.Diff())
	}
	if err := s.smb.WriteFragment(plan); err != nil {
		return err
	}
	candidate, drop, err := s.smb.Candidate(plan)
	if err != nil {
		return err
	}
	defer drop()
	if err := s.testparm(ctx, candidate); err != nil {
		return err
	}
	if err := s.smb.WriteMain(plan); err != nil {
		return err
	}
	detail := "already as it should be"
	if len(plan.Changes()) > 0 {
		detail = "includes " + smbconf.Fragment + "; testparm is content"
	}
	for _, note := range plan.Notes {
		detail += "; " + note
	}
	return s.done("smb-conf", s.smbConf, detail)
}

// writeSIDs gives Samba the SID of the domain, and keeps this machine's own
// SID, by which local accounts stand in ACLs, where its name in Samba changes.
func (s *samba) writeSIDs(ctx context.Context, before smbconf.Record, local string) (undo []func() error, err error) {
	now, err := s.sid(ctx, s.settings.Workgroup)
	if err != nil {
		return nil, err
	}
	detail, want := "already the domain's", s.status.GetDomainSid()
	if now != want {
		if now != "" {
			undo = append(undo, func() error {
				_, err := s.net(context.WithoutCancel(ctx), "setdomainsid", now)
				return err
			})
		}
		if _, err := s.net(ctx, "setdomainsid", want); err != nil {
			return undo, err
		}
		detail = s.settings.Workgroup + " is " + want
		if now != "" {
			detail += ", and was " + now
		}
	}
	mine, err := s.sid(ctx)
	if err != nil {
		return undo, err
	}
	if mine != local && before.LocalSID == "" {
		if _, err := s.net(ctx, "setlocalsid", local); err != nil {
			return undo, err
		}
		detail += "; this machine stays " + local
	}
	return undo, s.done("sids", "SIDs in Samba's secrets.tdb", detail)
}

// waitPipes waits until the daemon answers on its public pipe.
func (s *samba) waitPipes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pipeWait)
	defer cancel()
	for {
		err := s.askPipe(ctx, s.cfg.Samba.Pipe)
		if err == nil || fault.Is(err, fault.Conflict) {
			return err
		}
		select {
		case <-ctx.Done():
			return fault.WithRemedy(fault.Wrap(fault.Unreachable, "wait for the daemon on "+s.cfg.Samba.Pipe, err), "the daemon's log says why: journalctl -u latchkeyd")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sambaStays tells, at the end of a membership, of a smbd that still relies on it.
func (a *app) sambaStays() error {
	state, err := a.smb.State(smbconf.Main)
	if err != nil || !state.Made {
		return nil
	}
	return a.known("samba", "Samba", "smbd still asks latchkey, which knows nobody any more", "latchkey samba disable; then systemctl restart smbd")
}

func (a *app) sambaDisable(ctx context.Context, smbConf string) error {
	if err := a.needRoot("samba disable"); err != nil {
		return err
	}
	s := &samba{app: a}
	if err := s.look(smbConf); err != nil {
		return err
	}
	plan, err := s.smb.PlanRemove(s.smbConf)
	if err != nil {
		return err
	}
	// As long as smb.conf still names the domain.
	if was := s.state.Record.DomainSID; was != "" && s.state.Included {
		if _, err := s.net(ctx, "setdomainsid", was); err != nil {
			return err
		}
		if err := s.done("sids", "SIDs in Samba's secrets.tdb", "the domain's is again "+was); err != nil {
			return err
		}
	}
	if !a.json {
		fmt.Fprint(a.out, plan.Diff())
	}
	if err := s.smb.Remove(plan); err != nil {
		return err
	}
	s.recorded(ctx, "samba disable", paths(plan.Changes())...)
	detail := "already without latchkey"
	if len(plan.Changes()) > 0 {
		detail = "as it was before"
	}
	for _, note := range plan.Notes {
		detail += "; " + note
	}
	if err := s.done("smb-conf", s.smbConf, detail); err != nil {
		return err
	}
	if _, err := s.net(ctx, "cache", "flush"); err != nil {
		if err := a.finding("cache", "Samba's cache of ids", err, "", true); err != nil {
			return err
		}
	}
	if err := s.set(ctx, "samba.pipes", ""); err != nil {
		if out := a.finding("pipes", "winbind's pipes", err, "", false); out != nil {
			return out
		}
		return quiet(a.status(err))
	}
	if err := s.done("pipes", "winbind's pipes", "closed"); err != nil {
		return err
	}
	if _, n, err := s.running("smbd"); err == nil && n > 0 {
		if err := s.tellSmbd("smbd"); err != nil {
			return err
		}
	}
	if a.json {
		return a.printLine(object{{"samba", object{{"enabled", false}, {"smb_conf", s.smbConf}, {"diff", plan.Diff()}}}})
	}
	return nil
}
