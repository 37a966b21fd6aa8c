// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// cold measures a box that was just booted, and one whose daemon is stopped.
func cold(ctx context.Context, s *stage, all []*contestant, r *report) error {
	table := [][]string{header(all, "whole process")}
	first, again := []string{"`id` of a user in 208 groups, first after boot"}, []string{"the same, warm"}
	var firsts, agains []time.Duration
	for _, c := range all {
		var f, w sample
		for range 7 {
			if err := c.boot(ctx); err != nil {
				return fmt.Errorf("%s: boot: %w", c.name, err)
			}
			d, out, err := c.timed(ctx, "id user00000")
			if err != nil {
				return err
			}
			if n := strings.Count(out, "("); n < 200 {
				return fmt.Errorf("%s: id shows %d groups: %.200s", c.name, n, out)
			}
			f = append(f, d)
			for range 10 {
				d, _, err := c.timed(ctx, "id user00000")
				if err != nil {
					return err
				}
				w = append(w, d)
			}
		}
		first, again = append(first, f.String()), append(again, w.String())
		firsts, agains = append(firsts, f.median()), append(agains, w.median())
	}
	r.table("`id`", append(table, append(first, ratios(firsts)...), append(again, ratios(agains)...))...)
	return stopped(ctx, all, r)
}

// timed runs a command line in the box; the clock is read there.
func (c *contestant) timed(ctx context.Context, line string) (time.Duration, string, error) {
	out, err := c.Output(ctx, "bash", "-c", `a=$EPOCHREALTIME; o=$(`+line+`); s=$?; b=$EPOCHREALTIME; echo "$(( ${b/./} - ${a/./} ))"; echo "$o"; exit $s`)
	if err != nil {
		return 0, out, err
	}
	us, rest, _ := strings.Cut(out, "\n")
	n, err := strconv.ParseInt(us, 10, 64)
	return time.Duration(n) * time.Microsecond, rest, err
}

// patience is how long a question to a stopped daemon may take before it is
// called a hang.
const patience = 20

func stopped(ctx context.Context, all []*contestant, r *report) error {
	table := [][]string{header(all, "daemon stopped (SIGSTOP)")[:1+len(all)]}
	rows := []struct{ what, line string }{
		{"a known user", "getent passwd " + lab.UserName(1)},
		{"an unknown user", "getent passwd nobody99999"},
		{"`id -G root`", "id -G root"},
	}
	lines := make([][]string, len(rows))
	for i, row := range rows {
		lines[i] = []string{row.what}
	}
	for _, c := range all {
		if _, _, err := c.timed(ctx, rows[0].line); err != nil {
			return err
		}
		if n, err := c.Signal(ctx, syscall.SIGSTOP, c.daemons...); err != nil || n == 0 {
			return fmt.Errorf("%s: stopped %d processes: %w", c.name, n, err)
		}
		for i, row := range rows {
			d, _, err := c.timed(ctx, fmt.Sprintf("timeout %d %s; true", patience, row.line))
			if err != nil {
				return err
			}
			text := short(d)
			if d > patience*time.Second {
				text = fmt.Sprintf("over %d s", patience)
			}
			lines[i] = append(lines[i], text)
		}
		if _, err := c.Signal(ctx, syscall.SIGCONT, c.daemons...); err != nil {
			return err
		}
	}
	r.table("Daemon stopped", append(table, lines...)...)
	return nil
}
