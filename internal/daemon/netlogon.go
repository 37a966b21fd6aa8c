// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// openNetlogon prepares the machine account's secure channels. There is one
// Pool in all, for the membership's time.
func (d *Daemon) openNetlogon(locator *directory.Locator) *netlogon.Pool {
	return netlogon.New(netlogon.Config{Machine: machineAccount{d.store}, Servers: controllers{locator}, Log: d.log,
		MSCHAPv2: func() bool { return d.settings.now().NTLM.MSCHAPv2 }})
}

// ntlm is who is asked about answered challenges; nil while the machine is in no
// domain.
func (d *Daemon) ntlm() login.NTLMAuthority {
	if m := d.current(); m != nil {
		return timedLogon{m.netlogon, &d.took}
	}
	return nil
}

// How often a channel is tried again while none can be opened.
const (
	checkNTLM     = 30 * time.Second
	checkNTLMRare = 5 * time.Minute
)

// watchNTLM opens the first channel before somebody needs it, where smbd is
// served, and finds out when a trouble is over that nobody else would notice.
func (d *Daemon) watchNTLM(ctx context.Context, pool *netlogon.Pool) {
	if d.settings.now().Samba.Pipes {
		_, _ = pool.Check(ctx) // it keeps why not
	}
	wait := checkNTLM
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		p := pool.State().Problem
		if code, _ := netlogon.StatusOf(p); p == nil || code == netlogon.StatusNTLMBlocked {
			wait = checkNTLM // only somebody's sign-in can tell
			continue
		}
		if _, err := pool.Check(ctx); err == nil {
			d.log.Info("the secure channel to the domain works again")
		}
		wait = min(2*wait, checkNTLMRare)
	}
}

// fillNTLM tells why NTLM does not work where other ways of signing in do. That
// no domain controller answers at all is told elsewhere.
func (d *Daemon) fillNTLM(problem func(id, summary, remedy string, since time.Time)) {
	m := d.current()
	if m == nil {
		return
	}
	s := m.netlogon.State()
	if summary, remedy := ntlmProblem(s, m.mirror.Status().UnreachableSince.IsZero(), time.Now()); summary != "" {
		problem("ntlm", summary, remedy, s.Since)
	}
}

// ntlmProblem is what there is to tell; empty: nothing. directory says whether a
// domain controller answers there.
func ntlmProblem(s netlogon.State, directory bool, now time.Time) (summary, remedy string) {
	if s.Problem == nil {
		return "", ""
	}
	summary = "nobody can sign in by NTLM: " + s.Problem.Error()
	if _, decided := netlogon.StatusOf(s.Problem); decided {
		return summary, fault.Remedy(s.Problem)
	}
	if directory && now.Sub(s.Since) > checkNTLM {
		return summary, "the domain controllers' ports 135 and 49152 to 65535 (RPC) have to be reachable from this machine; see the network's rules"
	}
	return "", ""
}

// machineAccount is the store's record as package netlogon wants it.
type machineAccount struct{ store *store.Store }

// Account reads the account. A password that is on its way counts too, for the
// domain may know it already.
func (a machineAccount) Account(ctx context.Context) (*netlogon.Account, error) {
	m, err := a.store.Machine(ctx)
	if err != nil {
		return nil, err
	}
	return &netlogon.Account{Domain: m.Domain.NetBIOS, Name: m.ComputerAccount,
		Passwords: []secret.Bytes{m.Password, m.PendingPassword, m.PreviousPassword}}, nil
}

// controllers are the locator's domain controllers.
type controllers struct{ *directory.Locator }

// Servers returns them, best first.
func (c controllers) Servers(ctx context.Context) ([]netlogon.Server, error) {
	dcs, err := c.Candidates(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]netlogon.Server, len(dcs))
	for i, dc := range dcs {
		all[i] = netlogon.Server{Name: dc.Host, Addr: dc.Addr}
	}
	return all, nil
}
