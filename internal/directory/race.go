// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// race tries the first, and the next as well whenever the ones before fail or
// stay silent for wait. The first success wins and the others are cancelled; a
// success that comes too late is given to late, which may be nil. An error of
// kind fault.NotFound is an answer too, and final.
func race[S, R any](ctx context.Context, servers []S, wait time.Duration, try func(context.Context, S) (R, error), late func(R)) (R, error) {
	type outcome struct {
		r   R
		err error
	}
	var none R
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan outcome, len(servers))
	started, ended := 0, 0
	defer func() {
		if late == nil || started == ended {
			return
		}
		go func(n int) {
			for range n {
				if o := <-outcomes; o.err == nil {
					late(o.r)
				}
			}
		}(started - ended)
	}()
	next := func() {
		s := servers[started]
		started++
		go func() {
			r, err := try(ctx, s)
			outcomes <- outcome{r, err}
		}()
	}
	if len(servers) == 0 {
		return none, fault.New(fault.NotFound, "nobody to ask")
	}
	next()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var failures []error
	for len(failures) < len(servers) {
		select {
		case <-ctx.Done():
			return none, fault.Wrap(fault.Unreachable, "", errors.Join(append(failures, ctx.Err())...))
		case <-timer.C:
		case o := <-outcomes:
			ended++
			if o.err == nil || fault.Is(o.err, fault.NotFound) {
				return o.r, o.err
			}
			failures = append(failures, o.err)
		}
		if started < len(servers) {
			next()
			timer.Reset(wait)
		}
	}
	return none, fault.Wrap(fault.Unreachable, "", errors.Join(failures...))
}
