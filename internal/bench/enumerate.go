// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// enough is how long a peer may go on listing less than everybody.
const enough = 4 * time.Minute

// benchEnumerate lists everybody on a box that was just booted: how soon the
// list is whole, and how long it then takes. The peers are told to enumerate,
// which their own defaults do not.
func benchEnumerate(ctx context.Context, s *stage, r *report) error {
	all, err := s.contestants(ctx, true)
	if err != nil {
		return err
	}
	people := s.people
	whole, partial, once := []string{"`getent passwd`, first whole list"}, []string{"lists that were not whole before it"}, []string{"from the first answer of the daemon until then"}
	var took []time.Duration
	for _, c := range all {
		if err := c.boot(ctx); err != nil {
			return fmt.Errorf("%s: boot: %w", c.name, err)
		}
		began, wrong := time.Now(), 0
		for {
			d, out, err := c.timed(ctx, "getent passwd")
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if strings.Count(out, "\nuser") >= people-1 {
				whole, took = append(whole, short(d)), append(took, d)
				once = append(once, short(time.Since(began)))
				break
			}
			wrong++
			if time.Since(began) > enough {
				whole, took = append(whole, "never"), append(took, enough)
				once = append(once, "over "+short(enough))
				break
			}
			time.Sleep(time.Second)
		}
		partial = append(partial, fmt.Sprint(wrong))
	}
	r.table("Enumeration right after the start", header(all, "whole process"), append(whole, ratios(took)...), partial, once)
	return nil
}
