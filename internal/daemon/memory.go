// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"runtime/debug"
	"time"
)

// After a burst of changes the memory that a pass needed is given back: a NAS
// has better use for it, and the runtime alone would keep it for minutes.
const (
	quiet    = 3 * time.Second  // after the first change of a burst
	tidiness = 30 * time.Second // at least, between two collections
)

// giveBack returns memory to the system after each burst of changes.
func (d *Daemon) giveBack(ctx context.Context) {
	wake, cancel := d.store.Subscribe()
	defer cancel()
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	last, armed := time.Time{}, true
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			if !armed {
				timer.Reset(max(quiet, tidiness-time.Since(last)))
				armed = true
			}
		case <-timer.C:
			debug.FreeOSMemory()
			last, armed = time.Now(), false
		}
	}
}
