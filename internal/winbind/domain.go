// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// builtin is the domain of the local groups that every Windows machine has.
const builtin = "BUILTIN"

var builtinSID = identity.MustParseSID("S-1-5-32")

// member returns the membership, or the error that there is none.
func (c *client) member() (*Membership, error) {
	if m := c.s.cfg.Membership(); m != nil {
		return m, nil
	}
	return nil, fault.New(fault.Unreachable, "the machine is in no domain")
}

// names says whether s is a name of the domain.
func (m *Membership) names(s string) bool {
	if s == m.Domain.NetBIOS { // as smbd has it
		return s != ""
	}
	s = identity.Fold(strings.TrimSuffix(s, "."))
	return s != "" && (s == identity.Fold(m.Domain.NetBIOS) || s == m.Domain.DNS || s == identity.Fold(m.Domain.Realm))
}

func (c *client) netBIOSName(_ *wire.Request, resp *wire.Response) error {
	m, err := c.member()
	if err != nil {
		return err
	}
	resp.OK()
	resp.SetText(m.Computer)
	return nil
}

func (c *client) domainName(_ *wire.Request, resp *wire.Response) error {
	m, err := c.member()
	if err != nil {
		return err
	}
	resp.OK()
	resp.SetText(m.Domain.NetBIOS)
	return nil
}

func (c *client) domainInfo(req *wire.Request, resp *wire.Response) error {
	m, err := c.member()
	if err != nil {
		return err
	}
	switch name := req.Domain(); {
	case m.names(name):
		resp.SetDomain(&wire.Domain{NetBIOS: m.Domain.NetBIOS, DNS: m.Domain.DNS, SID: m.Domain.SID.String(), Native: true, ActiveDirectory: true, Primary: true})
	case strings.EqualFold(name, builtin):
		resp.SetDomain(&wire.Domain{NetBIOS: builtin, SID: builtinSID.String()})
	default:
		return fault.Errorf(fault.NotFound, "no such domain: %.200q", name)
	}
	resp.OK()
	return nil
}

// upstream returns who knows the domain controllers, and the membership.
func (c *client) upstream() (Upstream, *Membership, error) {
	m, err := c.member()
	if err != nil {
		return nil, nil, err
	}
	u := c.s.cfg.Upstream()
	if u == nil {
		return nil, nil, fault.New(fault.Unreachable, "no domain controller can be asked yet")
	}
	return u, m, nil
}

// dc returns the domain controller in use for a domain that a request names, or
// ours where it names none.
func (c *client) dc(domain string) (DC, *Membership, error) {
	u, m, err := c.upstream()
	if err != nil {
		return DC{}, nil, err
	}
	if domain != "" && !m.names(domain) {
		return DC{}, nil, fault.Errorf(fault.NotFound, "no such domain: %.200q", domain)
	}
	dc, ok := u.DC()
	if !ok {
		return DC{}, nil, fault.New(fault.Unreachable, "no domain controller answered lately")
	}
	return dc, m, nil
}

func (c *client) listTrustedDomains(_ *wire.Request, resp *wire.Response) error {
	m, err := c.member()
	if err != nil {
		return err
	}
	online := "Offline"
	if _, _, err := c.dc(""); err == nil {
		online = "Online"
	}
	resp.OK()
	resp.SetNumber(2)
	resp.Append(builtin + `\\` + builtinSID.String() + `\Local\Yes\No\No\Online` + "\n")
	resp.Append(m.Domain.NetBIOS + `\` + m.Domain.DNS + `\` + m.Domain.SID.String() + `\Workstation\Yes\No\Yes\` + online + "\x00")
	return nil
}

// checked asks a domain controller over the machine's channel. Many may ask; the
// domain is not made to answer each of a stranger's questions.
func (c *client) checked(req *wire.Request, resp *wire.Response) (string, error) {
	dc, err := func() (string, error) {
		u, m, err := c.upstream()
		if err != nil {
			return "", err
		}
		if d := req.Domain(); d != "" && !m.names(d) {
			return "", fault.Errorf(fault.NotFound, "no such domain: %.200q", d)
		}
		settle, err := c.s.pace.take(c.conn.Caller().UID)
		if err != nil {
			return "", err
		}
		ctx, cancel := c.patient()
		defer cancel()
		dc, err := u.Check(ctx)
		settle(err != nil)
		return dc, err
	}()
	if err != nil {
		status := statusOf(err)
		if fault.Is(err, fault.NotFound) {
			status = statusNoSuchDomain
		}
		c.refuse(resp, status, err, true)
		return "", err
	}
	resp.OK()
	resp.SetAuth(&wire.Auth{StatusName: statusName(statusOK), Message: statusMessage(statusOK), Authoritative: true})
	return dc, nil
}

func (c *client) checkMachineAccount(req *wire.Request, resp *wire.Response) error {
	_, err := c.checked(req, resp)
	return err
}

func (c *client) pingDC(req *wire.Request, resp *wire.Response) error {
	dc, err := c.checked(req, resp)
	if err != nil {
		return err
	}
	resp.Append(dc + "\x00")
	return nil
}

func (c *client) dcInfo(req *wire.Request, resp *wire.Response) error {
	dc, _, err := c.dc(req.Domain())
	if err != nil {
		return err
	}
	resp.OK()
	resp.SetNumber(1)
	resp.Append(dc.Host + "\n" + dc.Addr.String() + "\n\x00")
	return nil
}

func (c *client) getDCName(req *wire.Request, resp *wire.Response) error {
	dc, _, err := c.dc(req.Domain())
	if err != nil {
		return err
	}
	resp.OK()
	resp.SetText(dc.Host)
	return nil
}

// addressIP is DS_INET_ADDRESS (MS-NRPC 2.2.1.2.1).
const addressIP = 1

func (c *client) dsGetDCName(req *wire.Request, resp *wire.Response) error {
	domain, _, _ := req.DsGetDCName()
	dc, m, err := c.dc(domain)
	if err != nil {
		return err
	}
	resp.OK()
	resp.SetDC(&wire.DC{UNC: `\\` + dc.Host, Address: `\\` + dc.Addr.String(), AddressType: addressIP, DomainGUID: dc.DomainGUID,
		Domain: m.Domain.DNS, Forest: dc.Forest, Flags: dc.Flags, DCSite: dc.Site, ClientSite: dc.ClientSite})
	return nil
}
