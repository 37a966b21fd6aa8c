// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/peers"
)

// A contestant is a box whose names come from one service.
type contestant struct {
	*lab.Box
	name, module string
	daemons      []string // process names
	calls        int      // of a pass: what a daemon answers takes longer than what a file does
	boot         func(context.Context) error
}

const (
	probe   = "/usr/local/bin/nssbench"
	keys    = "/tmp/keys"
	strange = "/tmp/strangers"
)

// benchNSS measures what `ls -l` and a login ask, with SSSD in one box,
// winbindd in another and latchkey in a third, on the same domain.
func benchNSS(ctx context.Context, s *stage, r *report) error {
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-o", "build/nssbench", "nss/bench/nssbench.c", "-ldl", "-lpthread").CombinedOutput(); err != nil {
		return fmt.Errorf("compile nssbench: %w: %s", err, out)
	}
	all, err := s.contestants(ctx, false)
	if err != nil {
		return err
	}
	var names, unknown strings.Builder
	for i := range 2000 {
		fmt.Fprintln(&names, lab.UserName(i))
		fmt.Fprintf(&unknown, "nobody%05d\n", i)
	}
	for _, c := range all {
		if err := c.CopyIn(ctx, "build/nssbench", probe, 0o755); err != nil {
			return err
		}
		for file, text := range map[string]string{keys: names.String(), strange: unknown.String()} {
			if err := c.WriteFile(ctx, file, []byte(text), 0o644); err != nil {
				return err
			}
		}
		// Everything asked once: what follows is warm for everybody.
		if _, err := c.Output(ctx, "sh", "-c", "getent passwd $(cat "+keys+") >/dev/null; id user00000 >/dev/null; getent group everyone-big >/dev/null"); err != nil {
			return err
		}
	}
	warm := []struct {
		what string
		args []string
	}{
		{"module, getpwnam of 2,000 people", []string{"--module", "", "passwd-name", "@" + keys}},
		{"module, initgroups of a user in 208 groups", []string{"--module", "", "initgroups", "user00000"}},
		{"module, unknown name", []string{"--module", "", "--absent", "passwd-name", "@" + strange}},
		{"glibc, getpwnam of 2,000 people", []string{"passwd-name", "@" + keys}},
		{"glibc, unknown name", []string{"--absent", "passwd-name", "@" + strange}},
		{"glibc, group of 5,000 members", []string{"group-name", "everyone-big"}},
	}
	for _, where := range []struct{ title, client, daemon string }{
		{"Names, warm, caller and daemon on one core", "0", "0"},
		{"Names, warm, caller and daemon on two cores", "0", "1"},
	} {
		table := [][]string{header(all, "per call, mean")}
		for _, w := range warm {
			row := []string{w.what}
			var got []time.Duration
			for _, c := range all {
				if err := c.pin(ctx, where.daemon); err != nil {
					return err
				}
				a, err := c.probe(ctx, where.client, w.args...)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", c.name, w.what, err)
				}
				got = append(got, time.Duration(a.Mean))
				row = append(row, nano(a.Mean))
			}
			table = append(table, append(row, ratios(got)...))
		}
		r.table(where.title, table...)
	}
	if err := throughput(ctx, all, r); err != nil {
		return err
	}
	return cold(ctx, s, all, r)
}

// contestants are latchkey first, then the peers. enumerate makes the peers list
// everybody, on boxes of their own.
func (s *stage) contestants(ctx context.Context, enumerate bool) ([]*contestant, error) {
	if all := s.beside[enumerate]; all != nil {
		return all, nil
	}
	if err := s.nas.UseNSS(ctx); err != nil {
		return nil, err
	}
	n := s.nas
	all := []*contestant{{Box: n.Box, name: "latchkey", module: nas.Module, daemons: []string{"latchkeyd"}, calls: 20000,
		boot: func(ctx context.Context) error {
			if err := n.Reboot(ctx); err != nil {
				return err
			}
			return n.Start(ctx, true)
		}}}
	for _, p := range []struct {
		box   string
		setup func(context.Context, *lab.Box, *lab.Domain, bool) (*peers.Peer, error)
		names []string
		calls int
	}{
		{"sssd", peers.SSSD, []string{"sssd", "sssd_be", "sssd_nss", "sssd_pam", "sssd_pac"}, 5000},
		{"winbind", peers.Winbind, []string{"winbindd"}, 200},
	} {
		if enumerate {
			p.box += "-list"
		}
		box, err := s.lab.Box(ctx, p.box, lab.BoxOptions{UseDNS: true, Krb5Conf: true})
		if err != nil {
			return nil, err
		}
		peer, err := p.setup(ctx, box, s.domain, enumerate)
		if err != nil {
			return nil, err
		}
		all = append(all, &contestant{Box: box, name: peer.Name, module: peer.Module(), daemons: p.names, calls: p.calls, boot: peer.Boot})
	}
	if s.beside == nil {
		s.beside = map[bool][]*contestant{}
	}
	s.beside[enumerate] = all
	return all, nil
}

func header(all []*contestant, first string) []string {
	row := []string{first}
	for _, c := range all {
		row = append(row, c.name)
	}
	for _, c := range all[1:] {
		row = append(row, "latchkey / "+strings.Fields(c.name)[0])
	}
	return row
}

func ratios(got []time.Duration) (row []string) {
	for _, d := range got[1:] {
		row = append(row, fmt.Sprintf("%.3g", float64(got[0])/float64(d)))
	}
	return row
}

func nano(ns float64) string {
	if ns < 1000 {
		return fmt.Sprintf("%.2f us", ns/1000)
	}
	return short(time.Duration(ns))
}

// pin puts the daemon's threads on a core.
func (c *contestant) pin(ctx context.Context, core string) error {
	processes, err := c.Processes(ctx)
	if err != nil {
		return err
	}
	for _, p := range processes {
		for _, name := range c.daemons {
			if p.Name == name || p.Exe == name {
				if _, err := c.Output(ctx, "taskset", "-a", "-c", "-p", core, strconv.Itoa(p.PID)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// An answer is what nssbench prints.
type answer struct {
	Mean      float64 `json:"mean_ns"`
	PerSecond float64 `json:"per_second"`
}

// probe runs nssbench in the box on one core, or on all where core is "". An
// empty argument after --module stands for the contestant's module.
func (c *contestant) probe(ctx context.Context, core string, args ...string) (answer, error) {
	line := []string{probe}
	if core != "" {
		line = []string{"taskset", "-c", core, probe}
	}
	if args[0] != "--threads" && args[0] != "--processes" {
		line = append(line, "--calls", strconv.Itoa(c.calls))
	}
	for _, a := range args {
		if a == "" {
			a = c.module
		}
		line = append(line, a)
	}
	var a answer
	out, err := c.Output(ctx, line...)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal([]byte(out), &a)
}

func throughput(ctx context.Context, all []*contestant, r *report) error {
	table := [][]string{header(all, "module, calls per second")}
	for _, w := range []struct{ what, flag string }{{"getpwnam, 8 threads", "--threads"}, {"getpwnam, 8 processes", "--processes"}} {
		row := []string{w.what}
		var rates []float64
		for _, c := range all {
			if err := c.pin(ctx, "0,1"); err != nil {
				return err
			}
			a, err := c.probe(ctx, "", w.flag, "8", "--module", "", "passwd-name", "@"+keys)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", c.name, w.what, err)
			}
			rates = append(rates, a.PerSecond)
			row = append(row, fmt.Sprintf("%.3g M", a.PerSecond/1e6))
		}
		for _, x := range rates[1:] {
			row = append(row, fmt.Sprintf("%.3g", rates[0]/x))
		}
		table = append(table, row)
	}
	r.table("Names, throughput", table...)
	return nil
}
