// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A Step is one thing a lab does that takes long enough to be waited for.
type Step struct {
	Name   string        // "provisioning the domain"
	Expect time.Duration // on an ordinary machine; it may take more on a slow one
	Done   bool          // false when it begins, true when it ended
	Took   time.Duration // set when Done
	Err    error         // set when Done and failed
}

// Progress is told when a step begins and when it ends. A nil Progress is
// told nothing. It may be called from several goroutines.
type Progress func(Step)

// PrintProgress returns a Progress that writes one line per step to w.
func PrintProgress(w io.Writer) Progress {
	var mu sync.Mutex
	return func(s Step) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case !s.Done:
			fmt.Fprintf(w, "  ... %s (about %s)\n", s.Name, roundSeconds(s.Expect))
		case s.Err != nil:
			fmt.Fprintf(w, "failed %s after %s\n", s.Name, roundSeconds(s.Took))
		default:
			fmt.Fprintf(w, "   ok %s, %s\n", s.Name, roundSeconds(s.Took))
		}
	}
}

// step runs do between two reports.
func (p Progress) step(name string, expect time.Duration, do func() error) error {
	if p == nil {
		return do()
	}
	p(Step{Name: name, Expect: expect})
	begin := time.Now()
	err := do()
	p(Step{Name: name, Expect: expect, Done: true, Took: time.Since(begin), Err: err})
	return err
}

func roundSeconds(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
