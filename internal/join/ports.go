// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// port is a TCP port of a DC that is wanted open.
type port struct {
	number  uint16
	service string
	// needed: no join without it. Otherwise without says what will not work.
	needed  bool
	without string
}

var ports = []port{
	{53, "DNS", false, "this machine's name cannot be registered in the domain's DNS"},
	{88, "Kerberos", true, ""},
	{135, "RPC endpoint mapper", false, "people cannot sign in to SMB shares by NTLM"},
	{389, "LDAP", true, ""},
	{445, "SMB", false, "group policy and other Windows tools cannot reach the domain from here"},
	{464, "Kerberos password change", false, "passwords cannot be changed from here, nor this machine's own by Kerberos"},
}

// ports tries every port of every DC, all at once, and tells one step for each
// port. usable are the DCs whose needed ports are open. The error is that of
// the first needed port which is closed everywhere.
func (j *Joiner) ports(ctx context.Context, r *run, targets []target) (usable []netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, portTimeout)
	defer cancel()
	results := each(ports, func(p port) []error {
		return each(targets, func(t target) error { return j.probe(ctx, t.addr, p.number) })
	})
	targets, results = routed(targets, results)
	for i, t := range targets {
		open := true
		for n, p := range ports {
			open = open && (results[n][i] == nil || !p.needed)
		}
		if open {
			usable = append(usable, t.addr)
		}
	}
	for n, p := range ports {
		failed := r.step(StepPort+strconv.Itoa(int(p.number)), fmt.Sprintf("Try port %d (%s)", p.number, p.service), 14+n*2, func(s *Step) error {
			var open, closed []string
			var where []target
			for i, t := range targets {
				if e := results[n][i]; e != nil {
					closed = append(closed, fmt.Sprintf("port %d on %s %s", p.number, t, why(e)))
					where = append(where, t)
				} else {
					open = append(open, t.String())
				}
			}
			if len(closed) == 0 {
				s.Detail = "open on " + strings.Join(open, ", ")
				return nil
			}
			text := strings.Join(closed, ", ")
			remedy := p.remedy(where)
			if p.needed && len(open) == 0 {
				return fault.WithRemedy(fault.New(fault.Unreachable, text), remedy)
			}
			switch {
			case len(open) > 0:
				text += "; open on " + strings.Join(open, ", ")
			case p.without != "":
				text += ": " + p.without
			}
			s.warn(text, remedy)
			return nil
		})
		if err == nil {
			err = failed
		}
	}
	if err == nil && len(usable) == 0 {
		err = fault.WithRemedy(fault.New(fault.Unreachable, "no domain controller has ports 88 and 389 both open"), ports[1].remedy(targets))
	}
	return usable, err
}

// routed leaves out the addresses of a kind that this machine has no route for,
// where the same DC has one of the other kind: a machine with IPv6 alone misses
// nothing by that.
func routed(targets []target, results [][]error) ([]target, [][]error) {
	lost := func(i int) bool {
		for n := range results {
			if !errors.Is(results[n][i], syscall.ENETUNREACH) {
				return false
			}
		}
		return true
	}
	var kept []target
	left := make([][]error, len(results))
	for i, t := range targets {
		if lost(i) {
			other := false
			for k, o := range targets {
				other = other || o.name == t.name && o.addr.Is4() != t.addr.Is4() && !lost(k)
			}
			if other {
				continue
			}
		}
		kept = append(kept, t)
		for n := range results {
			left[n] = append(left[n], results[n][i])
		}
	}
	return kept, left
}

func (p port) remedy(where []target) string {
	var names []string
	for _, t := range where {
		names = append(names, t.addr.String())
	}
	return fmt.Sprintf("allow TCP %d from this machine to %s, better to the managed domain's whole subnet (network security group, VPN rule, firewall)", p.number, strings.Join(names, ", "))
}

// probe opens a TCP connection and closes it.
func (j *Joiner) probe(ctx context.Context, a netip.Addr, number uint16) error {
	conn, err := j.net.dial(ctx, "tcp", netip.AddrPortFrom(a, number).String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// why says what a failed connection means.
func why(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is closed (refused)"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "cannot be reached (no route)"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "does not answer (blocked on the way)"
	}
	return "cannot be opened: " + err.Error()
}
