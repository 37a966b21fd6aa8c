// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// State is how NTLM has gone since the Pool was made, for the status and the
// doctor.
type State struct {
	DC       string    // that was good last
	Asked    uint64    // questions that a domain controller decided
	Good     uint64    // of them, those with a right answer
	LastGood time.Time // of the last right answer; zero: none yet
	Blocked  time.Time // when the domain last said that it takes no NTLM; zero: never
	// Problem is why nobody can sign in by NTLM, as far as is known; nil: none
	// known. It has a kind, a remedy where there is one, and a status where a
	// domain controller decided.
	Problem error
	Since   time.Time // of Problem
}

// State returns it.
func (p *Pool) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	s.DC = p.last.Name
	return s
}

// note keeps how one question was answered.
func (p *Pool) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	code, decided := StatusOf(err)
	switch {
	case err == nil:
		p.state.Asked++
		p.state.Good++
		p.state.LastGood = p.c.Now()
		p.trouble(nil)
	case !decided || fault.KindOf(err) == fault.Unreachable:
		p.trouble(err)
	case code == StatusNTLMBlocked:
		p.state.Asked++
		p.state.Blocked = p.c.Now()
		p.trouble(fault.WithRemedy(err, "let people use Kerberos, or allow NTLM v2 in the domain's security settings"))
	default:
		p.state.Asked++
		p.trouble(nil) // one person's own trouble: the domain takes NTLM
	}
}

// works notes that a channel could be opened.
func (p *Pool) works() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = time.Time{}
	if code, _ := StatusOf(p.state.Problem); code != StatusNTLMBlocked {
		p.trouble(nil)
	}
}

// trouble sets the problem; the caller holds mu.
func (p *Pool) trouble(err error) {
	if p.state.Problem = err; err == nil {
		p.state.Since = time.Time{}
	} else if p.state.Since.IsZero() {
		p.state.Since = p.c.Now()
	}
}
