// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/peers"
	"github.com/latchkey-nas/latchkey/internal/netlogon/ntlmtest"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// benchNetlogon answers challenges on the privileged pipe as smbd does at each
// sign-in by NTLM, and has both daemons ask the same domain controller.
func benchNetlogon(ctx context.Context, s *stage, r *report) error {
	if _, err := s.nas.CLI(ctx, "config", "set", "samba.pipes", "true"); err != nil {
		return err
	}
	box, err := s.lab.Box(ctx, "ntlmwb", lab.BoxOptions{UseDNS: true})
	if err != nil {
		return err
	}
	peer, err := peers.Winbind(ctx, box, s.domain, false)
	if err != nil {
		return err
	}
	sides := []*ntlmSide{
		{end: pipeEnd{"latchkey", fmt.Sprintf("/proc/%d/root/var/lib/samba/winbindd_privileged/pipe", s.nas.PID())}, computer: "NAS"},
		{end: pipeEnd{peer.Name, fmt.Sprintf("/proc/%d/root/var/lib/samba/winbindd_privileged/pipe", box.PID())}, computer: "NTLMWB"},
	}
	for _, side := range sides {
		public := pipeEnd{side.end.name, fmt.Sprintf("/proc/%d/root/run/samba/winbindd/pipe", map[bool]int{true: s.nas.PID(), false: box.PID()}[side == sides[0]])}
		if err := public.wait(ctx); err != nil {
			return err
		}
	}
	rows := [][]string{{"user", sides[0].end.name, sides[1].end.name, "ratio of the medians"}}
	for _, who := range []struct {
		about string
		user  int
	}{{"in a few groups", 1}, {"in 208 groups", 0}} {
		for _, side := range sides {
			side.took = nil
			if side.talk == nil {
				if side.talk, err = side.end.dial(); err != nil {
					return err
				}
				defer side.talk.Close()
			}
		}
		for range roundTurns { // in turn, so that the machine's moods fall on both
			for _, side := range sides {
				if err := side.turn(ctx, s.domain.NetBIOS, who.user); err != nil {
					return err
				}
			}
		}
		show := func(s sample) string { return short(s.median()) + " / " + short(s.quantile(0.99)) }
		rows = append(rows, []string{who.about, show(sides[0].took), show(sides[1].took), ratio(sides[0].took.median(), sides[1].took.median())})
	}
	r.table("One sign-in by NTLM on winbind's privileged pipe, p50 / p99", rows...)
	return nil
}

// ntlmSide is one daemon that is asked.
type ntlmSide struct {
	end      pipeEnd
	talk     *talk
	computer string
	took     sample
}

func (s *ntlmSide) turn(ctx context.Context, domain string, user int) error {
	name := lab.UserName(user)
	began := time.Now()
	for i := 0; i < 3 || time.Since(began) < roundTime; i++ {
		a := ntlmtest.New(domain, name, lab.UserPassword(user), ntlmtest.Info(domain, s.computer))
		request, err := wire.NewRequest(wire.V32, wire.PAMAuthCrap)
		if err != nil {
			return err
		}
		request.SetAuthCrap(&wire.AuthCrap{Flags: wire.FlagInfo3Text | wire.FlagUserSessionKey | wire.FlagLMKey, Challenge: a.Challenge, Parameters: 0x820,
			User: name, Domain: domain, Workstation: "DESK", LM: a.LM, NT: a.NT})
		b := request.Append(nil)
		at := time.Now()
		got, err := s.talk.ask(b)
		if err != nil {
			return fmt.Errorf("%s: %w", s.end.name, err)
		}
		took := time.Since(at)
		answer, err := wire.ReadResponse(append([]byte(nil), got...))
		if err != nil {
			return fmt.Errorf("%s: %w", s.end.name, err)
		}
		if !answer.Succeeded() {
			auth, err := answer.Auth()
			return fmt.Errorf("%s does not let %s in: %+v, %w", s.end.name, name, auth, err)
		}
		if i > 0 { // the first opens the channel
			s.took = append(s.took, took)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
