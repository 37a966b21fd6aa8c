// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// certificateSoon is how long before its end a certificate is worth a word:
// those of public authorities are renewed a month before.
const certificateSoon = 14 * 24 * time.Hour

// lookCertificate says when the certificate that the configuration names ends. One
// that the daemon made for itself is its own to renew.
func (a *app) lookCertificate(c *config.Loaded) (string, error) {
	if c.Web.Certificate == "" {
		return "the machine's own, which browsers warn of", nil
	}
	text, err := os.ReadFile(a.at(c.Web.Certificate))
	if err != nil {
		return "", fault.WithRemedy(fault.Wrap(fault.NotFound, "read web.certificate", err), "put it there, readable by the user latchkey")
	}
	block, _ := pem.Decode(text)
	var first *x509.Certificate
	if err = errors.New("it is no PEM"); block != nil {
		first, err = x509.ParseCertificate(block.Bytes)
	}
	if err != nil {
		return "", fault.WithRemedy(fault.Wrap(fault.Malformed, "read "+c.Web.Certificate, err), "it has to be the certificate, then those of its authorities, as PEM")
	}
	end := first.NotAfter.Local().Format(time.DateOnly)
	const remedy = "put the renewed one in its place; the daemon takes it up by itself"
	switch left := first.NotAfter.Sub(a.now()); {
	case left <= 0:
		return "", fault.WithRemedy(fault.Errorf(fault.Expired, "%s ended on %s: browsers refuse it", c.Web.Certificate, end), remedy)
	case left < certificateSoon:
		return "", fault.WithRemedy(fault.Errorf(fault.Expired, "%s ends on %s", c.Web.Certificate, end), remedy)
	}
	return fmt.Sprintf("%s, until %s", c.Web.Certificate, end), nil
}

// lookTickets says whether a browser's ticket can sign in: the machine has a key
// for the names that browsers use, and who is asked for one. Whether the name
// leads here, the domain's DNS is asked, further down.
func (a *app) lookTickets(st *latchkeyv1.Status, c *config.Loaded) (string, error) {
	if !c.Web.Negotiate {
		return "switched off by web.negotiate", nil
	}
	hosts := []string{strings.ToLower(strings.TrimSuffix(st.GetComputerAccount(), "$") + "." + st.GetDomain())}
	for _, h := range c.Web.Hostnames {
		if h = strings.ToLower(h); !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	kt, err := kerberos.ReadKeytab(a.at(config.KeytabFile))
	if err != nil {
		return "", fault.WithRemedy(err, "latchkey machine rotate writes it anew")
	}
	defer kt.Wipe()
	for _, h := range hosts {
		if kt.Newest(kerberos.Service("HTTP", h, st.GetRealm())) == 0 {
			return "", fault.WithRemedy(fault.Errorf(fault.NotFound, "there is no key for HTTP/%s", h),
				"browsers get no ticket for that name: have them use "+hosts[0]+", which web.hostnames need not list")
		}
	}
	detail := "a key for HTTP/" + strings.Join(hosts, ", HTTP/") + "; "
	if len(c.Web.NegotiateFrom) == 0 {
		detail += "by a click (web.negotiate_from is empty)"
	} else {
		detail += "without a click from " + strings.Join(c.Web.NegotiateFrom, ", ")
	}
	if len(c.Web.NegotiateGroups) > 0 {
		detail += "; only " + strings.Join(c.Web.NegotiateGroups, ", ")
	}
	return detail, nil
}
