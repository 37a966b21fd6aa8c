// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// Limits of the preflight.
const (
	dnsTimeout   = 5 * time.Second
	portTimeout  = 3 * time.Second
	pingTimeout  = 5 * time.Second
	maxProbed    = 8 // DCs whose ports are tried; a managed domain has two per replica set
	skewWarning  = 60 * time.Second
	skewTooLarge = 300 * time.Second // Kerberos' own limit (RFC 4120 1.6, "clock skew")
)

const dnsRemedy = `give --dns the "IP address on virtual network" of the managed domain (Entra admin center, Domain Services, Properties)`

// target is a DC before anybody talked to it.
type target struct {
	name string // host name, or the address
	addr netip.Addr
}

func (t target) String() string {
	if t.name == t.addr.String() {
		return t.name
	}
	return fmt.Sprintf("%s (%s)", t.name, t.addr)
}

// preflight makes every check that needs no password, and returns the DC to
// work with. All checks run, also after one has failed, as far as they can
// tell anything new; the first failure is the error.
func (j *Joiner) preflight(ctx context.Context, r *run, req *Request, p *plan) (directory.DC, error) {
	var failed error
	note := func(err error) {
		if failed == nil {
			failed = err
		}
	}
	note(r.step(StepHostname, "Check the machine's name", 4, func(s *Step) error {
		own, err := j.cfg.Hostname()
		if err != nil {
			return fault.Wrap(fault.Internal, "read the host name", err)
		}
		if p.short, err = parseHostname(req.Hostname, own, p.domain); err != nil {
			return err
		}
		s.Detail = fmt.Sprintf("%s, account %s", p.fqdn(), p.account())
		return nil
	}))
	targets, err := j.find(ctx, r, p)
	if err != nil {
		note(err)
		return directory.DC{}, failed
	}
	usable, err := j.ports(ctx, r, targets)
	note(err)
	dc, err := j.controller(ctx, r, p, targets, usable)
	if err != nil {
		note(err)
		return directory.DC{}, failed
	}
	note(r.step(StepClock, "Compare the clocks", 30, func(s *Step) error { return j.clock(ctx, s, dc) }))
	return dc, failed
}

// find asks DNS for the domain controllers.
func (j *Joiner) find(ctx context.Context, r *run, p *plan) ([]target, error) {
	var records []directory.SRV
	var missing error
	given := len(p.dcs) > 0
	name := "_ldap._tcp.dc._msdcs." + p.domain
	if err := r.step(StepDNS, "Ask the name servers", 8, func(s *Step) (err error) {
		records, missing, err = j.askDNS(ctx, s, p, name)
		if err != nil && given {
			s.warn(cause(err), "")
			s.Detail += "; the domain controllers are given, so the join can go on without"
			missing, err = nil, nil
		}
		return err
	}); err != nil {
		return nil, err
	}
	if err := r.step(StepSRV, "Look up the domain's service records", 12, func(s *Step) error {
		switch {
		case len(records) > 0:
			s.Detail = fmt.Sprintf("%s: %s", name, strings.Join(hostsOf(records), ", "))
		case given:
			s.Detail = "not needed: domain controllers are given"
		case missing != nil:
			return fault.WithRemedy(fault.Errorf(fault.NotFound, "the name servers answer, but know no record %s: they do not know the domain %s, or it is no Active Directory domain", name, p.domain),
				"check the name of the domain; if it is right, "+dnsRemedy)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	names := p.dcs
	if !given {
		names = hostsOf(records)
	}
	return j.locate(ctx, r, p, names)
}

// askDNS asks every name server for the records, to tell which of them answer.
// missing is the answer "no such record".
func (j *Joiner) askDNS(ctx context.Context, s *Step, p *plan, name string) (records []directory.SRV, missing, err error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	if len(p.dns) == 0 {
		records, err = j.net.resolver().SRV(ctx, name)
		if err == nil || fault.Is(err, fault.NotFound) {
			s.Detail = "the machine's own name servers answer"
			return records, err, nil
		}
		return nil, nil, fault.WithRemedy(fault.Wrap(fault.Unreachable, "the machine's own name servers do not answer", err), "check /etc/resolv.conf, or "+dnsRemedy)
	}
	type answer struct {
		records []directory.SRV
		err     error
	}
	answers := each(p.dns, func(server netip.AddrPort) answer {
		records, err := j.net.resolver(server).SRV(ctx, name)
		return answer{records, err}
	})
	var silent, good []string
	for i, a := range answers {
		server := p.dns[i].Addr().String()
		switch {
		case a.err == nil:
			good = append(good, server)
			records = a.records
		case fault.Is(a.err, fault.NotFound):
			good = append(good, server)
			missing = a.err
		default:
			silent = append(silent, server)
			err = a.err
		}
	}
	switch {
	case len(good) == 0:
		return nil, nil, fault.WithRemedy(fault.Wrap(fault.Unreachable, "no answer from "+strings.Join(silent, ", "), err),
			"allow UDP and TCP port 53 from this machine to the managed domain's subnet (route, VPN, network security group), or check the addresses given with --dns")
	case len(silent) > 0:
		s.warn(fmt.Sprintf("%s answers, %s does not", strings.Join(good, ", "), strings.Join(silent, ", ")),
			"allow UDP and TCP port 53 to it: when the other one restarts, nothing answers")
	default:
		s.Detail = strings.Join(good, ", ") + " answer"
		if len(good) == 1 {
			s.Detail = good[0] + " answers"
		}
	}
	if len(records) > 0 {
		missing = nil
	}
	return records, missing, nil
}

// locate turns names of DCs into addresses.
func (j *Joiner) locate(ctx context.Context, r *run, p *plan, names []string) ([]target, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	var targets []target
	var failed error
	res := j.net.resolver(p.dns...)
	for _, name := range names {
		addrs, err := res.Addrs(ctx, name)
		if err != nil {
			failed = err
			continue
		}
		for _, a := range addrs {
			if t := (target{name, a.Unmap()}); len(targets) < maxProbed && !slices.Contains(targets, t) {
				targets = append(targets, t)
			}
		}
	}
	if len(targets) > 0 {
		return targets, nil
	}
	return nil, r.step(StepDC, "Find a domain controller", 0, func(*Step) error {
		remedy := "check the names given with --dc, or give addresses"
		if len(p.dcs) == 0 {
			remedy = dnsRemedy
		}
		return fault.WithRemedy(fault.Wrap(fault.Unknown, "no address for "+strings.Join(names, ", "), failed), remedy)
	})
}

// controller pings the DCs and chooses one.
func (j *Joiner) controller(ctx context.Context, r *run, p *plan, targets []target, usable []netip.Addr) (directory.DC, error) {
	var chosen directory.DC
	err := r.step(StepDC, "Find a domain controller", 26, func(s *Step) error {
		ctx, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		found, err := j.net.discover(ctx, p)
		if err != nil {
			return j.explainDC(ctx, p, targets, err)
		}
		for _, dc := range found {
			if !strings.EqualFold(dc.DNSDomain, p.domain) {
				return wrongDomain(target{dc.Host, dc.Addr}, dc, p)
			}
		}
		// One that can be worked with, if there is one: the best otherwise, so
		// that what follows can still tell something.
		chosen = found[0]
		if i := slices.IndexFunc(found, func(d directory.DC) bool {
			return slices.Contains(usable, d.Addr) && d.Flags.Has(directory.DCIsWritable)
		}); i >= 0 {
			chosen = found[i]
		}
		s.Detail = fmt.Sprintf("%s (%s), domain %s", chosen.Host, chosen.Addr, chosen.NetBIOS)
		if chosen.Site != "" {
			s.Detail += ", site " + chosen.Site
		}
		if !chosen.Flags.Has(directory.DCIsWritable) {
			return fault.WithRemedy(fault.Errorf(fault.Unreachable, "%s is read-only, and no other domain controller answers", chosen.Host),
				"name a writable domain controller with --dc")
		}
		return nil
	})
	return chosen, err
}

// explainDC says why no DC of the domain answered.
func (j *Joiner) explainDC(ctx context.Context, p *plan, targets []target, err error) error {
	type answer struct {
		dc   directory.DC
		err  error
		open bool
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), portTimeout)
	defer cancel()
	answers := each(targets, func(t target) (a answer) {
		open := make(chan bool, 1)
		go func() { open <- j.probe(ctx, t.addr, 389) == nil }()
		a.dc, a.err = j.net.ping(ctx, t.addr, "")
		a.open = <-open
		return a
	})
	var silent []string
	for i, a := range answers {
		switch {
		case a.err == nil && !strings.EqualFold(a.dc.DNSDomain, p.domain):
			return wrongDomain(targets[i], a.dc, p)
		case a.err == nil:
			// It answers after all: what it said first stands.
		case a.open:
			return fault.WithRemedy(fault.Errorf(fault.NotFound, "%s takes connections to port 389 but does not answer as an Active Directory domain controller", targets[i]),
				"check the address; if it is right, allow UDP port 389 to it as well")
		default:
			silent = append(silent, targets[i].String())
		}
	}
	if len(silent) == len(targets) {
		err = fault.Wrap(fault.Unreachable, strings.Join(silent, ", ")+" cannot be reached", err)
	}
	return fault.WithRemedy(err, "check the route or VPN from this machine to the managed domain's subnet, and that the domain is running")
}

func wrongDomain(t target, dc directory.DC, p *plan) error {
	return fault.WithRemedy(fault.Errorf(fault.NotFound, "%s serves the domain %s, not %s", t, dc.DNSDomain, p.domain),
		"join "+dc.DNSDomain+", or name the domain controllers of "+p.domain)
}

// clock compares the clocks.
func (j *Joiner) clock(ctx context.Context, s *Step, dc directory.DC) error {
	ctx, cancel := context.WithTimeout(ctx, portTimeout)
	defer cancel()
	_, skew, err := j.net.kdc(dc.Realm(), dc.Addr).Time(ctx)
	if e, ok := as[*kerberos.SkewError](err); ok {
		skew, err = e.Skew(), nil
	}
	if err != nil {
		// Port 88 has a line of its own, which says what to do.
		s.warn("the domain controller did not tell its time: "+cause(err), "")
		return nil
	}
	const remedy = "set the clock: let this machine take its time from the domain (NTP server %s), or from the same source"
	switch d := skew.Abs(); {
	case d > skewTooLarge:
		return skewed(skew, dc.Host)
	case d > skewWarning:
		s.warn(tellSkew(skew)+"; at 5 minutes sign-ins stop", fmt.Sprintf(remedy, dc.DNSDomain))
	default:
		s.Detail = fmt.Sprintf("%.1f seconds apart", d.Seconds())
	}
	return nil
}

// skewed is the refusal because of the clocks.
func skewed(skew time.Duration, dc string) error {
	return fault.WithRemedy(fault.New(fault.Unreachable, tellSkew(skew)+"; Kerberos allows 5 minutes"),
		"set the clock of this machine: let it take its time by NTP from "+dc+", or from the same source")
}

func tellSkew(skew time.Duration) string {
	word := "ahead of"
	if skew < 0 {
		word = "behind"
	}
	return fmt.Sprintf("this machine's clock is %d seconds %s the domain controller's", int(skew.Abs().Round(time.Second).Seconds()), word)
}

func hostsOf(records []directory.SRV) []string {
	var hosts []string
	for _, r := range records {
		if !slices.Contains(hosts, r.Host) {
			hosts = append(hosts, r.Host)
		}
	}
	return hosts
}

// each calls do for every element side by side and returns the answers in
// order.
func each[T, A any](all []T, do func(T) A) []A {
	out := make([]A, len(all))
	done := make(chan int)
	for i, one := range all {
		go func() { out[i] = do(one); done <- i }()
	}
	for range all {
		<-done
	}
	return out
}
