// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// resend is how long an answer to a ping is awaited before it is sent again:
// a datagram may be lost.
const resend = 500 * time.Millisecond

// Ping sends a CLDAP ping (MS-ADTS 6.3.3) to addr (port 0 means 389) and
// returns what the DC says of itself. domain may be empty: the domain that the
// DC serves. No answer before ctx ends is fault.Unreachable, an answer that
// the domain is not served there fault.NotFound.
func Ping(ctx context.Context, addr netip.AddrPort, domain string) (DC, error) {
	return find(ctx, nil, addr, domain)
}

// silence is how long a ping may be unanswered before TCP is tried as well: a
// firewall may let nothing but TCP through.
const silence = time.Second

// find pings addr, and where no answer comes by UDP reads the rootDSE by TCP.
// Nobody is authenticated here: what is found says where to connect, no more.
func find(ctx context.Context, dial Dialer, addr netip.AddrPort, domain string) (DC, error) {
	if addr.Port() == 0 {
		addr = netip.AddrPortFrom(addr.Addr(), 389)
	}
	ways := []string{"udp", "tcp"}
	d, err := race(ctx, ways, silence, func(ctx context.Context, network string) (DC, error) {
		if network == "tcp" {
			return askRoot(ctx, dial, network, addr, domain)
		}
		if domain != "" {
			return ping(ctx, dial, addr, domain)
		}
		// Samba answers a ping only when it names the domain.
		d, err := askRoot(ctx, dial, network, addr, "")
		if err != nil {
			return DC{}, err
		}
		return ping(ctx, dial, addr, d.DNSDomain)
	}, nil)
	if err != nil {
		return DC{}, fault.Wrap(fault.Unknown, "ping the domain controller "+addr.Addr().String(), err)
	}
	return d, nil
}

// askRoot reads the names in the rootDSE, which anybody may do without a bind.
// It knows neither sites nor NetBIOS names; the flags are those that a DC
// normally has.
func askRoot(ctx context.Context, dial Dialer, network string, addr netip.AddrPort, domain string) (d DC, err error) {
	defer func() {
		if recover() != nil {
			d, err = DC{}, fault.New(fault.Malformed, "the answer broke its decoder")
		}
	}()
	raw, err := dial.open(ctx, network, addr.String())
	if err != nil {
		return DC{}, fault.Wrap(fault.Unreachable, "", err)
	}
	w := &wire{Conn: raw}
	conn := ldap.NewConn(w, false)
	conn.Start()
	defer func() { _ = w.Close(); _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	defer stop()
	start := time.Now()
	result, err := conn.Search(Query{Attributes: []string{"dnsHostName", "defaultNamingContext", "rootDomainNamingContext"}}.request(0, nil))
	if err != nil {
		return DC{}, classify("", err)
	}
	if len(result.Entries) != 1 {
		return DC{}, fault.New(fault.NotFound, "it is no domain controller")
	}
	e := result.Entries[0]
	d = DC{
		Host:      hostName(e.GetAttributeValue("dnsHostName")),
		DNSDomain: domainOf(e.GetAttributeValue("defaultNamingContext")),
		Forest:    domainOf(e.GetAttributeValue("rootDomainNamingContext")),
		Addr:      addr.Addr().Unmap(),
		Flags:     DCIsLDAP | DCIsDS | DCIsKDC | DCIsWritable,
		RTT:       time.Since(start),
	}
	if !isHostName(d.Host) || !isHostName(d.DNSDomain) {
		return DC{}, fault.New(fault.NotFound, "it is no domain controller")
	}
	if domain != "" && d.DNSDomain != hostName(domain) {
		return DC{}, fault.Errorf(fault.NotFound, "it serves %s, not %s", d.DNSDomain, domain)
	}
	return d, nil
}

func ping(ctx context.Context, dial Dialer, addr netip.AddrPort, domain string) (DC, error) {
	query, err := pingRequest(domain)
	if err != nil {
		return DC{}, err
	}
	conn, err := dial.open(ctx, "udp", addr.String())
	if err != nil {
		return DC{}, fault.Wrap(fault.Unreachable, "", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	buf := make([]byte, 64<<10)
	var last error
	for ctx.Err() == nil {
		start := time.Now()
		if _, err := conn.Write(query); err != nil {
			return DC{}, fault.Wrap(fault.Unreachable, "", err)
		}
		_ = conn.SetReadDeadline(start.Add(resend))
		n, err := conn.Read(buf)
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				last = err
				continue
			}
			if ctx.Err() != nil {
				break
			}
			return DC{}, fault.Wrap(fault.Unreachable, "", err) // ICMP says that nobody listens
		}
		rtt := time.Since(start)
		blob, err := pingReply(buf[:n])
		if err != nil {
			return DC{}, err
		}
		d, err := parseNetlogon(blob)
		if err != nil {
			return DC{}, err
		}
		if domain != "" && d.DNSDomain != hostName(domain) {
			return DC{}, fault.Errorf(fault.NotFound, "it serves %s, not %s", d.DNSDomain, domain)
		}
		d.Addr, d.RTT = addr.Addr().Unmap(), rtt
		return d, nil
	}
	return DC{}, fault.Wrap(fault.Unreachable, "", errors.Join(ctx.Err(), last))
}

// pingMessageID is the message id of every ping; the socket is connected, and
// a late answer says the same.
const pingMessageID = 1

// pingRequest is a search of the rootDSE for the attribute Netlogon.
func pingRequest(domain string) ([]byte, error) {
	f, err := ldap.CompileFilter("(&(DnsDomain=" + ldap.EscapeFilter(domain) + `)(NtVer=\06\00\00\00))`)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, "make the filter of a ping", err)
	}
	req := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchRequest, nil, "")
	req.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
	for range 2 { // scope base, never dereference
		req.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, 0, ""))
	}
	for range 2 { // no limits
		req.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 0, ""))
	}
	req.AppendChild(ber.NewBoolean(ber.ClassUniversal, ber.TypePrimitive, ber.TagBoolean, false, ""))
	req.AppendChild(f)
	attrs := ber.NewSequence("")
	attrs.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "Netlogon", ""))
	req.AppendChild(attrs)
	msg := ber.NewSequence("")
	msg.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, pingMessageID, ""))
	msg.AppendChild(req)
	return msg.Bytes(), nil
}

// pingReply finds the value of Netlogon in the datagram of an answer.
func pingReply(b []byte) (blob []byte, err error) {
	defer func() {
		if recover() != nil {
			blob, err = nil, fault.New(fault.Malformed, "the answer broke its decoder")
		}
	}()
	msg, err := ber.DecodePacketErr(b)
	if err != nil {
		return nil, fault.New(fault.Malformed, "the answer is no LDAP message")
	}
	if len(msg.Children) < 2 || msg.Children[1].ClassType != ber.ClassApplication {
		return nil, fault.New(fault.Malformed, "the answer is no LDAP message")
	}
	op := msg.Children[1]
	if op.Tag == ldap.ApplicationSearchResultDone {
		return nil, fault.New(fault.NotFound, "it does not serve this domain")
	}
	if op.Tag != ldap.ApplicationSearchResultEntry || len(op.Children) < 2 {
		return nil, fault.New(fault.Malformed, "the answer is no search result")
	}
	for _, a := range op.Children[1].Children {
		if len(a.Children) == 2 && len(a.Children[1].Children) == 1 {
			return a.Children[1].Children[0].Data.Bytes(), nil
		}
	}
	return nil, fault.New(fault.NotFound, "it does not serve this domain")
}
