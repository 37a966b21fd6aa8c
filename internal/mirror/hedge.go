// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// hedge is how long a DC may be silent before another is asked as well, for
// somebody who waits to be let in.
const hedge = 300 * time.Millisecond

// readOne reads one object on s, and on a connection to another DC as well
// where s is silent, or was so the last time. The first answer counts; of is
// who gave it. The silent one is not cut off: it may be busy with a pass. Where
// it says nothing until ctx's deadline its connection closes, and whoever uses
// it moves on.
func (m *Mirror) readOne(ctx context.Context, s Session, key identity.Key) (o directory.Object, of Session, err error) {
	type answer struct {
		o     directory.Object
		of    Session
		asked bool // it was reached
		err   error
	}
	deadline := time.Now().Add(m.cfg.AnswerTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	asking, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	unlink := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) { // else its own deadline ends it, which says more
			cancel()
		}
	})
	answers := make(chan answer, 2)
	running := 0
	ask := func(session func() (Session, error)) {
		running++
		go func() {
			var a answer
			if a.of, a.err = session(); a.err == nil {
				a.asked = true
				a.o, a.err = a.of.ReadOne(asking, key)
				m.heard(a.of, a.err)
			}
			answers <- a
		}()
	}
	ask(func() (Session, error) { return s, nil })
	wait := hedge
	if m.isSilent(s) || m.cfg.Directory.Doubted(s) {
		wait = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	defer func() {
		if running == 0 || ctx.Err() != nil {
			cancel()
			return
		}
		unlink() // the other one ends by its deadline
		go func() {
			for range running {
				<-answers
			}
			cancel()
		}()
	}()
	failed := answer{of: s}
	for {
		select {
		case <-timer.C:
			ask(func() (Session, error) { return m.cfg.Directory.Another(asking, s) })
		case a := <-answers:
			running--
			if a.asked && !fault.Is(a.err, fault.Unreachable) {
				if a.of != s && running > 0 {
					m.setSilent(s)
				}
				return a.o, a.of, a.err
			}
			if failed.err == nil || a.of == s {
				failed.err = a.err
			}
			if running == 0 {
				return failed.o, failed.of, failed.err
			}
		}
	}
}

// heard notes that a session answered.
func (m *Mirror) heard(s Session, err error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.silent == s && !fault.Is(err, fault.Unreachable) {
		m.silent = nil
	}
}

func (m *Mirror) isSilent(s Session) bool {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.silent == s
}

func (m *Mirror) setSilent(s Session) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.silent = s
}
