// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"errors"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// run is one task under way.
type run struct {
	tell    func(Step)
	percent int
}

// step tells that a step begins, does it, and tells how it ended. do may set
// Detail, Remedy and State (to Warning); an error makes it Failed. upTo is how
// much of the whole task is behind after it. The error comes back with the
// title of the step in front.
func (r *run) step(id, title string, upTo int, do func(s *Step) error) error {
	s := Step{ID: id, Title: title, State: Running, Percent: r.percent}
	r.tell(s)
	s.State = Done
	err := do(&s)
	if err != nil {
		// Unknown means that nobody thought of it: ours to answer for.
		if fault.KindOf(err) == fault.Unknown {
			err = fault.Wrap(fault.Internal, "", err)
		}
		if fault.Remedy(err) == "" {
			err = fault.WithRemedy(err, general(err))
		}
		s.State, s.Detail, s.Remedy = Failed, cause(err), fault.Remedy(err)
		r.tell(s)
		return fault.Wrap(fault.Unknown, title, err)
	}
	if upTo > 0 {
		r.percent = upTo
	}
	s.Percent = r.percent
	r.tell(s)
	return nil
}

// general is what to do about a failure that nobody had a better word for.
func general(err error) string {
	if errors.Is(err, context.Canceled) {
		return "it was interrupted, or the daemon was started anew meanwhile: run the same command again, which does what is left"
	}
	switch fault.KindOf(err) {
	case fault.Unreachable:
		return "check the network between this machine and the domain controllers, and run the same command again"
	case fault.Denied, fault.Conflict, fault.NotFound:
		return "ask an administrator of the domain, who finds the domain controller's own words above"
	case fault.Internal, fault.Exhausted:
		return "look at the log of latchkeyd on this machine, then run the same command again: it repairs what is half done"
	}
	return "run the same command again; if it fails in the same place, the log of latchkeyd has more"
}

// cause is the text of err for a step: all of it, on one line.
func cause(err error) string {
	if text := err.Error(); text != "" {
		return strings.ReplaceAll(text, "\n", "; ")
	}
	return fault.KindOf(err).String()
}

// try is step for what may fail without stopping the task: the error becomes a
// warning.
func (r *run) try(id, title string, upTo int, do func(s *Step) error) {
	_ = r.step(id, title, upTo, func(s *Step) error {
		if err := do(s); err != nil {
			s.State, s.Detail = Warning, cause(err)
			if s.Remedy = fault.Remedy(err); s.Remedy == "" {
				s.Remedy = general(err)
			}
		}
		return nil
	})
}

// warn makes a step a warning.
func (s *Step) warn(detail, remedy string) {
	s.State, s.Detail, s.Remedy = Warning, detail, remedy
}

// as finds an error of a type in a chain.
func as[T error](err error) (T, bool) {
	var e T
	ok := errors.As(err, &e)
	return e, ok
}
