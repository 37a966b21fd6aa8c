// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"strconv"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// USN is an update sequence number. It counts on one DC only: compare it
// together with the invocation id it came from.
type USN uint64

// RootDSE is what a DC says about itself and its domain (MS-ADTS 3.1.1.3.2).
type RootDSE struct {
	DNSHost             string // of the DC, lower case
	DefaultNC           string // DN of the domain
	ConfigurationNC     string
	SchemaNC            string
	RootDomainNC        string
	DSServiceName       string        // DN of the DC's NTDS settings
	InvocationID        identity.GUID // of the DC's database; changes when it is restored
	HighestCommittedUSN USN
	DomainLevel         int // functional levels: 4 is 2008 R2, 7 is 2016
	ForestLevel         int
	DCLevel             int
	CurrentTime         time.Time // the DC's clock
	SupportedControls   []string  // OIDs
	SASLMechanisms      []string
}

var rootAttributes = []string{"dnsHostName", "defaultNamingContext", "configurationNamingContext", "schemaNamingContext",
	"rootDomainNamingContext", "dsServiceName", "highestCommittedUSN", "domainFunctionality", "forestFunctionality",
	"domainControllerFunctionality", "currentTime", "supportedControl", "supportedSASLMechanisms"}

// RootDSE reads the DC's rootDSE and its invocation id. Without naming
// context, USN or invocation id it is fault.Malformed.
func (c *Conn) RootDSE(ctx context.Context) (RootDSE, error) {
	const op = "read what the domain controller says about itself"
	e, err := c.Get(ctx, "", rootAttributes...)
	if err != nil {
		return RootDSE{}, fault.Wrap(fault.Unknown, op, err)
	}
	r := RootDSE{
		DNSHost:         hostName(e.First("dnsHostName")),
		DefaultNC:       e.First("defaultNamingContext"),
		ConfigurationNC: e.First("configurationNamingContext"),
		SchemaNC:        e.First("schemaNamingContext"),
		RootDomainNC:    e.First("rootDomainNamingContext"),
		DSServiceName:   e.First("dsServiceName"),
	}
	for _, f := range []struct {
		name string
		into *int
	}{{"domainFunctionality", &r.DomainLevel}, {"forestFunctionality", &r.ForestLevel}, {"domainControllerFunctionality", &r.DCLevel}} {
		if n, err := strconv.Atoi(e.First(f.name)); err == nil {
			*f.into = n
		}
	}
	for _, v := range e.Values("supportedControl") {
		r.SupportedControls = append(r.SupportedControls, string(v))
	}
	for _, v := range e.Values("supportedSASLMechanisms") {
		r.SASLMechanisms = append(r.SASLMechanisms, string(v))
	}
	r.CurrentTime, _ = generalizedTime(e.First("currentTime"))
	usn, err := strconv.ParseUint(e.First("highestCommittedUSN"), 10, 64)
	if err != nil || r.DefaultNC == "" || r.DSServiceName == "" {
		return RootDSE{}, fault.New(fault.Malformed, op+": the rootDSE is not that of an Active Directory DC")
	}
	r.HighestCommittedUSN = USN(usn)

	// The invocation id never changes while a connection lives.
	c.mu.Lock()
	f := c.facts
	c.mu.Unlock()
	if f != nil && f.service == r.DSServiceName {
		r.InvocationID = f.invocation
		return r, nil
	}
	settings, err := c.Get(ctx, r.DSServiceName, "invocationId")
	if err != nil {
		return RootDSE{}, fault.Wrap(fault.Unknown, op, err)
	}
	var raw []byte
	if v := settings.Values("invocationId"); len(v) == 1 {
		raw = v[0]
	}
	if r.InvocationID, err = identity.GUIDFromBytes(raw); err != nil {
		return RootDSE{}, fault.Wrap(fault.Malformed, op, err)
	}
	return r, nil
}

// facts are what a connection needs to know to read objects; they do not
// change while it lives.
type facts struct {
	defaultNC  string
	synced     []string // RDNs of OU=AADDC Users
	config     string
	service    string
	invocation identity.GUID
	netBIOS    string
	dnsDomain  string
}

// know returns the facts, reading them the first time.
func (c *Conn) know(ctx context.Context) (facts, error) {
	c.mu.Lock()
	f := c.facts
	c.mu.Unlock()
	if f != nil {
		return *f, nil
	}
	r, err := c.RootDSE(ctx)
	if err != nil {
		return facts{}, err
	}
	f = &facts{defaultNC: r.DefaultNC, config: r.ConfigurationNC, service: r.DSServiceName, invocation: r.InvocationID}
	// Not the names of the ping: nobody vouches for those.
	err = c.Search(ctx, Query{Base: "CN=Partitions," + f.config, Scope: OneLevel, Attributes: []string{"nETBIOSName", "dnsRoot"},
		Filter: "(&(objectClass=crossRef)(nCName=" + EscapeFilter(f.defaultNC) + "))"}, func(e Entry) error {
		f.netBIOS, f.dnsDomain = e.First("nETBIOSName"), hostName(e.First("dnsRoot"))
		return nil
	})
	if err != nil {
		return facts{}, fault.Wrap(fault.Unknown, "read the names of the domain", err)
	}
	if f.netBIOS == "" || !isHostName(f.dnsDomain) {
		return facts{}, fault.Errorf(fault.Malformed, "the domain is named %.64q and %.255q", f.netBIOS, f.dnsDomain)
	}
	var ok bool
	if f.synced, ok = splitDN(syncedOU + "," + r.DefaultNC); !ok {
		return facts{}, fault.Errorf(fault.Malformed, "the domain controller names its domain %.200q", r.DefaultNC)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.facts = f
	return *f, nil
}
