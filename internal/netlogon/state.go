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
	// known. It has a kind and a remedy.
	Problem error
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
		p.state.Problem = nil
	case !decided || fault.KindOf(err) == fault.Unreachable:
		p.state.Problem = err
	case code == StatusNTLMBlocked:
		p.state.Asked++
		p.state.Blocked = p.c.Now()
		p.state.Problem = fault.WithRemedy(err, "the domain takes no NTLM; sign in by Kerberos, or allow it: Entra Domain Services, Security settings, NTLM authentication")
	default:
		p.state.Asked++
	}
}
