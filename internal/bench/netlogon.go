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
	return afterRestart(ctx, s, sides, r)
}

// afterRestart is how long it takes from the moment at which a domain controller
// serves again until somebody gets in.
func afterRestart(ctx context.Context, s *stage, sides []*ntlmSide, r *report) error {
	rows := [][]string{{"", sides[0].end.name, sides[1].end.name}}
	for range 3 {
		if err := s.domain.DC.Restart(ctx); err != nil {
			return err
		}
		row := []string{"after a restart of the domain controller"}
		var took [2]time.Duration
		for i, side := range sides {
			began := time.Now()
			for {
				in, err := side.signIn(s.domain.NetBIOS, 1)
				if err != nil {
					return err
				}
				if took[i] = time.Since(began); in || took[i] > longestReturn {
					break
				}
				time.Sleep(time.Millisecond)
			}
			text := short(took[i])
			if took[i] > longestReturn {
				text = "over " + text
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	r.table("NTLM after a restart of the domain controller: until somebody gets in", rows...)
	return nil
}

// longestReturn is how long a daemon may take to come back.
const longestReturn = time.Minute

// ntlmSide is one daemon that is asked.
type ntlmSide struct {
	end      pipeEnd
	talk     *talk
	computer string
	took     sample
	last     time.Duration
}

func (s *ntlmSide) turn(ctx context.Context, domain string, user int) error {
	began := time.Now()
	for i := 0; i < 3 || time.Since(began) < roundTime; i++ {
		in, err := s.signIn(domain, user)
		if err != nil {
			return err
		}
		if !in {
			return fmt.Errorf("%s does not let %s in", s.end.name, lab.UserName(user))
		}
		if i > 0 { // the first opens the channel
			s.took = append(s.took, s.last)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// signIn answers one challenge; how long it took is in last.
func (s *ntlmSide) signIn(domain string, user int) (in bool, err error) {
	name := lab.UserName(user)
	a := ntlmtest.New(domain, name, lab.UserPassword(user), ntlmtest.Info(domain, s.computer))
	request, err := wire.NewRequest(wire.V32, wire.PAMAuthCrap)
	if err != nil {
		return false, err
	}
	request.SetAuthCrap(&wire.AuthCrap{Flags: wire.FlagInfo3Text | wire.FlagUserSessionKey | wire.FlagLMKey, Challenge: a.Challenge, Parameters: 0x820,
		User: name, Domain: domain, Workstation: "DESK", LM: a.LM, NT: a.NT})
	b := request.Append(nil)
	at := time.Now()
	got, err := s.talk.ask(b)
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.end.name, err)
	}
	s.last = time.Since(at)
	answer, err := wire.ReadResponse(append([]byte(nil), got...))
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.end.name, err)
	}
	return answer.Succeeded(), nil
}
