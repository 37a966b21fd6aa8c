// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
)

// A show types commands on the NAS and prints what they answer. The first
// failure ends it: later scenes do nothing.
type show struct {
	ctx    context.Context
	nas    *nas.NAS
	domain *lab.Domain
	out    io.Writer
	err    error
}

// run is the tour.
func (s *show) run() {
	s.join()
	s.lookups()
	s.watch()
	s.names()
	s.shares()
	s.shells()
	s.web()
	s.dead()
}

func (s *show) join() {
	r, err := s.nas.CLI(s.ctx, "status")
	if err != nil {
		s.err = err
		return
	}
	if !r.Ok() {
		s.say("A bare NAS joins the domain. Any user of the domain may; the password is asked for, never stored.")
		s.print("latchkey join " + s.domain.DNS + " --user " + lab.JoinUser + " --dns " + s.domain.DC.IP())
		r, err := s.nas.Join(s.ctx, s.domain, "--people", "cloud-only")
		if err != nil {
			s.err = err
			return
		}
		fmt.Fprint(s.out, r.Stdout, r.Stderr)
		if !r.Ok() {
			s.err = fmt.Errorf("the join failed: exit status %d", r.Exit)
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		defer cancel()
		if err := s.nas.WaitMirror(ctx); err != nil {
			s.err = err
			return
		}
	}
	s.say("How is it?")
	s.enter("latchkey status")
}

func (s *show) lookups() {
	s.say("One person, whichever way you ask: name, DOMAIN\\name, UPN, uid, SID or Entra object id.")
	s.enter("latchkey user get grace.nakamura")
	s.enter("latchkey user get 'GRACE.NAKAMURA@contoso.test' --json | head -8")
	s.enter("latchkey group list | head -12")
	s.say("Names that the machine cannot take as they are keep their rights, and latchkey says why.")
	s.enter("latchkey group list --unpublished | head -6")
}

// watch shows a change in the directory arriving.
func (s *show) watch() {
	if s.err != nil {
		return
	}
	s.say("Someone in Entra ID gets a new job title and a new group; whoever watches sees it.")
	s.print("latchkey watch &")
	c := s.nas.Command("latchkey", "watch", "--no-snapshot")
	var seen syncBuffer
	c.Stdout = &seen
	ctx, cancel := context.WithTimeout(s.ctx, 90*time.Second)
	defer cancel()
	p, err := c.Start(ctx)
	if err != nil {
		s.err = err
		return
	}
	defer func() { _ = p.Kill(); _, _ = p.Wait() }()
	if s.err = seen.waitFor(ctx, "changes follow"); s.err != nil {
		return
	}
	fmt.Fprintln(s.out, "(in the directory: grace.nakamura joins Projects Write, olivia.smith leaves the company)")
	began := time.Now()
	if err := s.domain.AddMembers(ctx, "Projects Write", "grace.nakamura"); err != nil {
		s.err = err
		return
	}
	if err := s.domain.Disable(ctx, "olivia.smith", true); err != nil {
		s.err = err
		return
	}
	if s.err = seen.waitFor(ctx, "olivia.smith", "grace.nakamura"); s.err != nil {
		return
	}
	fmt.Fprint(s.out, seen.String())
	fmt.Fprintf(s.out, "(seen %.1f s after the change)\n", time.Since(began).Seconds())
	// As it was, so that the tour can be repeated.
	if s.err = s.domain.Disable(ctx, "olivia.smith", false); s.err == nil {
		s.err = s.domain.RemoveMembers(ctx, "Projects Write", "grace.nakamura")
	}
}

// names shows the programs of the machine that know nothing of latchkey.
func (s *show) names() {
	if s.err != nil {
		return
	}
	if s.err = s.nas.UseNSS(s.ctx); s.err != nil {
		return
	}
	s.say("With \"latchkey\" after \"files\" in nsswitch.conf, every program knows them.")
	s.enter("getent passwd grace.nakamura zoë.kröger")
	s.enter("id juergen.mueller")
	s.enter("mkdir -p /srv/finance && touch /srv/finance/budget.ods && chown juergen.mueller:finance /srv/finance/budget.ods")
	s.enter("setfacl -m u:amelie.dubois:rw -m 'g:month end:r' /srv/finance/budget.ods")
	s.enter("ls -l /srv/finance; getfacl -cp /srv/finance/budget.ods")
}

// dead shows the same with the daemon killed, then starts it again.
func (s *show) dead() {
	if s.err != nil {
		return
	}
	s.say("Names are a file: kill the daemon, and nothing changes for anybody.")
	s.print("pkill -9 latchkeyd")
	if _, err := s.nas.Signal(s.ctx, syscall.SIGKILL, "latchkeyd"); err != nil {
		s.err = err
		return
	}
	if s.err = s.nas.WaitGone(s.ctx, "latchkeyd"); s.err != nil {
		return
	}
	s.enter("ls -l /srv/finance; id grace.nakamura; latchkey status || echo exit status $?")
	if s.err == nil {
		s.err = s.nas.Start(s.ctx, true)
	}
	s.print("latchkeyd run &")
	s.enter("latchkey status | head -1")
}

func (s *show) say(text string) {
	if s.err == nil {
		fmt.Fprintf(s.out, "\n\033[1m# %s\033[0m\n", text)
	}
}

func (s *show) print(command string) {
	fmt.Fprintf(s.out, "\n\033[32mnas#\033[0m %s\n", command)
}

// enter runs a command line on the NAS and prints it with its output.
func (s *show) enter(line string) {
	if s.err != nil {
		return
	}
	s.print(line)
	c := s.nas.Command("bash", "-c", "exec 2>&1; "+line)
	c.Env = []string{"TERM=xterm", "COLUMNS=118"}
	r, err := c.Run(s.ctx)
	if r != nil {
		fmt.Fprint(s.out, r.Stdout)
	}
	switch {
	case err != nil:
		s.err = err
	case !r.Ok():
		s.err = fmt.Errorf("%s ended with status %d", line, r.Exit)
	}
}
