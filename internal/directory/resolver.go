// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// hedge is how long one server may be silent before the next is asked as well.
const hedge = 300 * time.Millisecond

// SRV is one service record (RFC 2782).
type SRV struct {
	Host     string // lower case, no trailing dot
	Port     uint16
	Priority uint16
	Weight   uint16
}

// Resolver asks the given name servers, or the machine's own when there are
// none. With name servers given it reads neither /etc/resolv.conf nor
// /etc/hosts.
type Resolver struct {
	servers []netip.AddrPort
	dial    Dialer
	good    atomic.Int32 // the server that answered last is asked first
}

// Dialer opens a connection, as net.Dialer.DialContext does. Nil means that.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

func (d Dialer) open(ctx context.Context, network, address string) (net.Conn, error) {
	if d == nil {
		d = (&net.Dialer{}).DialContext
	}
	return d(ctx, network, address)
}

// NewResolver returns a resolver that asks servers in their order, the next
// one after 300 ms of silence (port 0 means 53); none means the machine's own.
func NewResolver(servers ...netip.AddrPort) *Resolver {
	r := &Resolver{}
	for _, s := range servers {
		if s.Port() == 0 {
			s = netip.AddrPortFrom(s.Addr(), 53)
		}
		r.servers = append(r.servers, s)
	}
	return r
}

// Servers returns the name servers that are asked; none means the machine's
// own.
func (r *Resolver) Servers() []netip.AddrPort { return slices.Clone(r.servers) }

// SRV returns the records of name, as "_ldap._tcp.dc._msdcs.example.com", by
// priority, then in the random order of RFC 2782. No such record is
// fault.NotFound, no answer fault.Unreachable.
func (r *Resolver) SRV(ctx context.Context, name string) ([]SRV, error) {
	var out []SRV
	if len(r.servers) == 0 {
		_, records, err := (&net.Resolver{PreferGo: true}).LookupSRV(ctx, "", "", name)
		if err != nil && len(records) == 0 {
			return nil, lookupFault(name, err)
		}
		for _, s := range records {
			out = append(out, SRV{hostName(s.Target), s.Port, s.Priority, s.Weight})
		}
	} else {
		answer, err := r.ask(ctx, name, dns.TypeSRV)
		if err != nil {
			return nil, err
		}
		for _, rr := range answer {
			if s, ok := rr.(*dns.SRV); ok {
				out = append(out, SRV{hostName(s.Target), s.Port, s.Priority, s.Weight})
			}
		}
		order(out)
	}
	// RFC 2782: a target of "." says that the service is decidedly not there.
	out = slices.DeleteFunc(out, func(s SRV) bool { return s.Host == "" })
	if len(out) == 0 {
		return nil, fault.Errorf(fault.NotFound, "DNS has no SRV record %s", name)
	}
	return out, nil
}

// order sorts by priority, and inside one by weighted draw (RFC 2782).
func order(records []SRV) {
	slices.SortFunc(records, func(a, b SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Weight, b.Weight))
	})
	for i := range records {
		n, sum := i, 0
		for ; n < len(records) && records[n].Priority == records[i].Priority; n++ {
			sum += int(records[n].Weight)
		}
		draw, pick := rand.IntN(sum+1), i
		for running := 0; pick < n-1; pick++ {
			if running += int(records[pick].Weight); running >= draw {
				break
			}
		}
		chosen := records[pick]
		copy(records[i+1:pick+1], records[i:pick])
		records[i] = chosen
	}
}

// Addrs returns the addresses of host, IPv4 first. An IP address is returned
// as it is, without a question.
func (r *Resolver) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	var out []netip.Addr
	if len(r.servers) == 0 {
		addrs, err := (&net.Resolver{PreferGo: true}).LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, lookupFault(host, err)
		}
		for _, a := range addrs {
			out = append(out, a.Unmap())
		}
	} else {
		type result struct {
			rrs []dns.RR
			err error
		}
		six := make(chan result, 1)
		go func() {
			rrs, err := r.ask(ctx, host, dns.TypeAAAA)
			six <- result{rrs, err}
		}()
		rrs, err := r.ask(ctx, host, dns.TypeA)
		second := <-six
		for _, rr := range append(rrs, second.rrs...) {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			}
			if a, ok := netip.AddrFromSlice(ip); ok {
				out = append(out, a.Unmap())
			}
		}
		if len(out) == 0 && err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, fault.Errorf(fault.NotFound, "DNS has no address of %s", host)
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return slices.Compact(out), nil
}

// ask puts one question to the name servers, the next one when one fails or is
// silent. NXDOMAIN is fault.NotFound; an existing name without such records is
// an empty answer.
func (r *Resolver) ask(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, fault.Errorf(fault.Malformed, "not a DNS name: %.255q", name)
	}
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(1232, false)
	good := int(r.good.Load())
	servers := append([]netip.AddrPort{r.servers[good]}, slices.Delete(slices.Clone(r.servers), good, good+1)...)
	answers, err := race(ctx, servers, hedge, func(ctx context.Context, s netip.AddrPort) ([]dns.RR, error) {
		rrs, err := r.exchange(ctx, q.Copy(), s)
		if err == nil || fault.Is(err, fault.NotFound) {
			r.good.Store(int32(slices.Index(r.servers, s)))
		}
		return rrs, err
	}, nil)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "ask DNS for "+name, err)
	}
	return answers, nil
}

// exchange asks one server by UDP, again after a second, and by TCP where the
// answer is cut. A final answer is one with NOERROR or NXDOMAIN.
func (r *Resolver) exchange(ctx context.Context, q *dns.Msg, server netip.AddrPort) ([]dns.RR, error) {
	reply, err := r.once(ctx, q, "udp", server, time.Second)
	for try := 0; try < 2 && err != nil && ctx.Err() == nil; try++ {
		reply, err = r.once(ctx, q, "udp", server, time.Second)
	}
	if err == nil && reply.Truncated {
		reply, err = r.once(ctx, q, "tcp", server, 5*time.Second)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "name server "+server.String(), err)
	}
	switch reply.Rcode {
	case dns.RcodeSuccess:
		return reply.Answer, nil
	case dns.RcodeNameError:
		return nil, fault.Errorf(fault.NotFound, "name server %s: no such name", server)
	}
	return nil, fault.Errorf(fault.Unreachable, "name server %s: %s", server, dns.RcodeToString[reply.Rcode])
}

func (r *Resolver) once(ctx context.Context, q *dns.Msg, network string, server netip.AddrPort, patience time.Duration) (*dns.Msg, error) {
	raw, err := r.dial.open(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	client := &dns.Client{Net: network, Timeout: patience, UDPSize: 1232}
	reply, _, err := client.ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: raw})
	return reply, err
}

// lookupFault classifies an error of the machine's own resolver.
func lookupFault(name string, err error) error {
	kind := fault.Unreachable
	var d *net.DNSError
	if errors.As(err, &d) && d.IsNotFound {
		kind = fault.NotFound
	}
	return fault.Wrap(kind, "ask DNS for "+name, err)
}

// hostName is the form in which host names are kept.
func hostName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }
