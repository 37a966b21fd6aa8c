// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// settle is how long after the load memory is read, as the peers' was.
const settle = 60 * time.Second

func benchMemory(ctx context.Context, s *stage, r *report) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	processes, err := s.nas.Processes(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"process", "resident", "private"}}
	var resident, private int64
	for _, p := range processes {
		if p.Name != "latchkeyd" {
			continue
		}
		m, err := rollup(fmt.Sprintf("/proc/%d/root/proc/%d/smaps_rollup", s.nas.PID(), p.PID))
		if err != nil {
			return err
		}
		rows = append(rows, []string{strings.Join(p.Args[:min(len(p.Args), 2)], " "), megabytes(m.resident), megabytes(m.private)})
		resident, private = resident+m.resident, private+m.private
	}
	if resident == 0 {
		return fmt.Errorf("no latchkeyd runs in %s", s.nas.Name())
	}
	rows = append(rows, []string{"together", megabytes(resident), megabytes(private)})
	r.table("Memory, 60 s after load", rows...)
	disk, err := s.nas.Output(ctx, "sh", "-c", "stat -c %s /var/lib/latchkey/latchkey.db; stat -c %s /var/lib/latchkey-nss/identities 2>/dev/null || echo 0")
	if err != nil {
		return err
	}
	sizes := strings.Fields(disk)
	rows = [][]string{{"file", "size"}}
	for i, name := range []string{"latchkey.db", "the snapshot"} {
		n, err := strconv.ParseInt(sizes[i], 10, 64)
		if err != nil {
			return err
		}
		rows = append(rows, []string{name, megabytes(n)})
	}
	r.table("Disk", rows...)
	return nil
}

type usage struct{ resident, private int64 }

// rollup reads smaps_rollup (proc(5)).
func rollup(path string) (usage, error) {
	var u usage
	f, err := os.Open(path)
	if err != nil {
		return u, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "Rss":
			u.resident += kb * 1024
		case "Private_Clean", "Private_Dirty":
			u.private += kb * 1024
		}
	}
	return u, nil
}
