// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

const (
	pamProbe  = "/usr/local/bin/pambench"
	pamPeople = "/root/people"
	pamOne    = "/root/one"
)

// stacks are the PAM lines of the contestants: auth and account, nothing else.
// Winbind's are Debian's own.
var stacks = map[string]string{
	"latchkey": "auth required pam_latchkey.so\naccount required pam_latchkey.so\n",
	"SSSD":     "auth required pam_sss.so\naccount required pam_sss.so\n",
	"winbindd": "auth required pam_winbind.so krb5_auth krb5_ccache_type=FILE cached_login\naccount required pam_winbind.so\n",
}

// A round is what pambench saw.
type round struct {
	tried, in int
	wall      time.Duration
	each      sample
}

func (p round) String() string {
	if p.in == p.tried {
		return p.each.String()
	}
	return fmt.Sprintf("%s, %d of %d came in", p.each, p.in, p.tried)
}

// signIn runs pambench in the box.
func (c *contestant) signIn(ctx context.Context, people string, atATime, rounds int) (p round, err error) {
	out, err := c.Output(ctx, pamProbe, "bench", people, strconv.Itoa(atATime), strconv.Itoa(rounds))
	if err != nil {
		return p, err
	}
	var numbers []int
	for _, f := range strings.Fields(out) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return p, err
		}
		numbers = append(numbers, n)
	}
	if len(numbers) < 4 || len(numbers) != 3+numbers[0] {
		return p, fmt.Errorf("pambench says %q", out)
	}
	p = round{tried: numbers[0], in: numbers[1], wall: time.Duration(numbers[2]) * time.Microsecond}
	for _, us := range numbers[3:] {
		p.each = append(p.each, time.Duration(us)*time.Microsecond)
	}
	return p, nil
}

// benchSignIn measures a password at PAM, with and without a domain controller
// and a daemon, beside the peers, and an SSH login beside a local user's.
func benchSignIn(ctx context.Context, s *stage, r *report) error {
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-o", "build/pambench", "pam/bench/pambench.c", "-lpam").CombinedOutput(); err != nil {
		return fmt.Errorf("compile pambench: %w: %s", err, out)
	}
	all, err := s.contestants(ctx, false)
	if err != nil {
		return err
	}
	var people strings.Builder
	for i := range 30 {
		fmt.Fprintln(&people, lab.UserName(i+1), lab.UserPassword(i+1))
	}
	for _, c := range all {
		if err := c.CopyIn(ctx, "build/pambench", pamProbe, 0o755); err != nil {
			return err
		}
		for file, text := range map[string]string{pamPeople: people.String(), pamOne: lab.UserName(1) + " " + lab.UserPassword(1) + "\n",
			"/etc/pam.d/bench": stacks[strings.Fields(c.name)[0]]} {
			if err := c.WriteFile(ctx, file, []byte(text), 0o600); err != nil {
				return err
			}
		}
	}
	for _, service := range []string{"bench", "sshd"} {
		if _, err := s.nas.Output(ctx, "latchkey", "access", "allow", service, "*"); err != nil {
			return err
		}
	}
	if err := s.passwords(ctx, all, r); err != nil {
		return err
	}
	if err := s.shell(ctx, r); err != nil {
		return err
	}
	return s.signInFaults(ctx, all, r)
}

// passwords is the domain answering.
func (s *stage) passwords(ctx context.Context, all []*contestant, r *report) error {
	table := [][]string{header(all, "a password at PAM, authenticate and account")}
	one, many := []string{"one at a time, 30 people twice"}, []string{"16 at a time, each"}
	perSecond := []string{"16 at a time, sign-ins per second"}
	var ones, manys []time.Duration
	for _, c := range all {
		if _, err := c.signIn(ctx, pamPeople, 1, 1); err != nil { // what is to be cached is cached
			return err
		}
		p, err := c.signIn(ctx, pamPeople, 1, 2)
		if err != nil {
			return err
		}
		m, err := c.signIn(ctx, pamPeople, 16, 4)
		if err != nil {
			return err
		}
		if p.in != p.tried || m.in != m.tried {
			log, _ := c.Output(ctx, "sh", "-c", "tail -5 /var/log/latchkeyd.log /var/log/latchkey/audit.jsonl 2>/dev/null; true")
			return fmt.Errorf("%s lets %d of %d in, and %d of %d: %s", c.name, p.in, p.tried, m.in, m.tried, log)
		}
		one, many = append(one, p.String()), append(many, m.String())
		perSecond = append(perSecond, fmt.Sprintf("%.0f", float64(m.in)/m.wall.Seconds()))
		ones, manys = append(ones, p.each.median()), append(manys, m.each.median())
	}
	var kinit sample
	for range 20 {
		d, _, err := all[0].timed(ctx, "kinit "+lab.UserName(1)+"@"+s.domain.Realm()+" <<<'"+lab.UserPassword(1)+"'")
		if err != nil {
			return err
		}
		kinit = append(kinit, d)
	}
	table = append(table, append(one, ratios(ones)...), append(many, ratios(manys)...), perSecond,
		[]string{"`kinit`, the whole process", kinit.String()}, []string{"latchkey / kinit", ratio(ones[0], kinit.median())})
	r.table("Sign-in by password", table...)
	return nil
}

// shell is the wall time of an SSH login by password.
func (s *stage) shell(ctx context.Context, r *report) error {
	if _, err := s.nas.Output(ctx, "sh", "-c", `DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable latchkey
		id local 2>/dev/null || useradd -m -s /bin/bash local; echo 'local:bench password' | chpasswd
		ssh-keygen -A >/dev/null; mkdir -p /run/sshd; /usr/sbin/sshd -o UsePAM=yes -o PasswordAuthentication=yes -o MaxStartups=100`); err != nil {
		return err
	}
	login := func(name, password string) (d sample, err error) {
		for i := range 12 {
			took, _, err := (&contestant{Box: s.nas.Box}).timed(ctx, "sshpass -p '"+password+"' ssh -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "+
				"-o PreferredAuthentications=password -l "+name+" 127.0.0.1 true")
			if err != nil {
				return nil, err
			}
			if i >= 2 { // the first ones make the home directory
				d = append(d, took)
			}
		}
		return d, nil
	}
	local, err := login("local", "bench password")
	if err != nil {
		return err
	}
	domain, err := login(lab.UserName(1), lab.UserPassword(1))
	if err != nil {
		return err
	}
	r.table("An SSH login by password, client and server, until the command has run", []string{"", "wall time"},
		[]string{"a local user", local.String()}, []string{"a domain user", domain.String()}, []string{"more", short(domain.median() - local.median())})
	return nil
}

// signInFaults is the domain controller silently lost, and the daemon stopped.
func (s *stage) signInFaults(ctx context.Context, all []*contestant, r *report) error {
	if err := s.domain.DC.Blackhole(ctx); err != nil {
		return err
	}
	first, later, stopped := []string{"DC silently lost: the first sign-in"}, []string{"after it: 30 people"}, []string{"daemon stopped (SIGSTOP)"}
	// limited asks for one sign-in, which may take as long as patience.
	limited := func(c *contestant) (string, error) {
		d, out, err := c.timed(ctx, fmt.Sprintf("timeout %d %s bench %s 1 1; true", patience, pamProbe, pamOne))
		switch f := strings.Fields(out); {
		case err != nil:
			return "", err
		case d > patience*time.Second:
			return fmt.Sprintf("over %d s", patience), nil
		case len(f) > 1 && f[1] == "1":
			return short(d) + ", in", nil
		}
		return short(d) + ", refused", nil
	}
	for _, c := range all {
		text, err := limited(c)
		if err != nil {
			return err
		}
		first = append(first, text)
		// A peer that hangs for one would for thirty.
		if strings.HasPrefix(text, "over") {
			later = append(later, "not tried")
			continue
		}
		p, err := c.signIn(ctx, pamPeople, 1, 1)
		if err != nil {
			return err
		}
		later = append(later, p.String())
	}
	if err := s.domain.DC.Heal(ctx); err != nil {
		return err
	}
	for _, c := range all {
		if n, err := c.Signal(ctx, syscall.SIGSTOP, c.daemons...); err != nil || n == 0 {
			return fmt.Errorf("%s: stopped %d processes: %w", c.name, n, err)
		}
		text, err := limited(c)
		if err != nil {
			return err
		}
		stopped = append(stopped, text)
		if _, err := c.Signal(ctx, syscall.SIGCONT, c.daemons...); err != nil {
			return err
		}
	}
	r.table("Sign-in while something is wrong", header(all, "")[:1+len(all)], first, later, stopped)
	return nil
}
