// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// samba remembers which release is served. It is asked for again now and then,
// for an upgrade replaces it under a daemon that runs.
type samba struct {
	ask func(context.Context) (Samba, error)
	log *slog.Logger

	mu    sync.Mutex
	known Samba
	err   error
	until time.Time
	told  string
}

// askAgain is how long an answer is good for.
const askAgain = 5 * time.Second

// now returns the release, or why nobody can be served. That is told in the log
// once for each reason.
func (s *samba) now(ctx context.Context) (Samba, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		return s.known, s.err
	}
	s.known, s.err = s.ask(ctx)
	if s.err == nil && !s.known.Interface.Known() {
		s.err = fault.Errorf(fault.Conflict, "interface version %d is not known", s.known.Interface)
	}
	s.until = time.Now().Add(askAgain)
	text := s.known.Release
	if s.err != nil {
		text = s.err.Error()
	}
	if text != s.told {
		s.told = text
		if s.err != nil {
			s.log.Error("the pipes of winbind serve nobody: it is not known how this machine's Samba speaks", "error", s.err, "remedy", fault.Remedy(s.err))
		} else {
			s.log.Info("the pipes of winbind serve this machine's Samba", "release", s.known.Release, "interface", s.known.Interface)
		}
	}
	return s.known, s.err
}

// Problem returns why nobody is served; nil where everybody is, or nobody has
// asked yet. It does not wait.
func (s *Server) Problem() error {
	if !s.samba.mu.TryLock() { // it is being found out
		return nil
	}
	defer s.samba.mu.Unlock()
	return s.samba.err
}
