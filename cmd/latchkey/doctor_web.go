// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// nameTime bounds the question for one name.
const nameTime = 5 * time.Second

// doctorTickets says whether a browser's ticket can sign in: the machine has a
// key for the names that browsers use, the names lead somewhere, and who is asked.
func (a *app) doctorTickets(ctx context.Context, st *latchkeyv1.Status) error {
	c, err := config.Load(a.configFile, a.folder)
	if err != nil || c.Web.Listen == "" { // the configuration has its own line
		return nil
	}
	detail := "switched off by web.negotiate"
	if c.Web.Negotiate {
		detail, err = a.checkTickets(ctx, st, c)
	}
	return a.finding("web-tickets", "Sign-in to the web by a ticket", err, detail, true)
}

func (a *app) checkTickets(ctx context.Context, st *latchkeyv1.Status, c *config.Loaded) (string, error) {
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
	for _, h := range hosts {
		asked, cancel := context.WithTimeout(ctx, nameTime)
		found, err := a.lookupHost(asked, h)
		cancel()
		if err != nil || len(found) == 0 {
			return "", fault.WithRemedy(fault.Errorf(fault.NotFound, "%s has no address", h), "browsers must find this machine by that name: `latchkey join` registers it in the domain's DNS, which this machine and theirs have to ask")
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
