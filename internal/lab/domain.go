// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Passwords of the lab. They are no secrets.
const (
	AdminUser     = "Administrator"
	AdminPassword = "Passw0rd!Adm1n"
	JoinUser      = "joiner" // an ordinary user of the domain
	JoinPassword  = "Passw0rd!Join"
	DemoPassword  = "Passw0rd!Demo" // of every person of the demo population
)

// DomainOptions say how a domain is to be. The zero value is the domain of the
// documentation: aadds.contoso.test, with people under contoso.test.
type DomainOptions struct {
	DNS        string     `json:"dns"`     // aadds.contoso.test; the realm is the same in capitals
	NetBIOS    string     `json:"netbios"` // AADDSCONTOSO
	UPNSuffix  string     `json:"upn_suffix"`
	Variant    string     `json:"variant,omitempty"` // another text is another domain of the same name: other SIDs, GUIDs and keys, people created in another order
	DCs        int        `json:"dcs,omitempty"`     // how many domain controllers; 1 when 0
	Population Population `json:"population"`
}

func (o DomainOptions) withDefaults() DomainOptions {
	if o.DNS == "" {
		o.DNS = "aadds.contoso.test"
	}
	if o.NetBIOS == "" {
		o.NetBIOS = "AADDSCONTOSO"
	}
	if o.UPNSuffix == "" {
		o.UPNSuffix = "contoso.test"
	}
	if o.DCs == 0 {
		o.DCs = 1
	}
	return o
}

// Realm is the Kerberos realm.
func (o DomainOptions) Realm() string { return strings.ToUpper(o.DNS) }

// BaseDN is the root of the domain's tree.
func (o DomainOptions) BaseDN() string { return "DC=" + strings.ReplaceAll(o.DNS, ".", ",DC=") }

// UsersDN holds what Microsoft's synchronisation writes: people and groups.
func (o DomainOptions) UsersDN() string { return "OU=AADDC Users," + o.BaseDN() }

// ComputersDN is where any user of the domain may create a computer.
func (o DomainOptions) ComputersDN() string { return "OU=AADDC Computers," + o.BaseDN() }

// A Domain is an Active Directory domain on the lab's switch.
type Domain struct {
	DomainOptions
	DC  *DC   // the first domain controller, or the one that At was asked for
	DCs []*DC // all of them

	lab *Lab
	db  *samdb
}

// Domain starts the lab's domain controller. The first time a domain of these
// options is wanted it is provisioned and filled, which takes from 15 s to
// minutes by its size; afterwards a private copy starts in a few seconds.
func (l *Lab) Domain(ctx context.Context, options DomainOptions) (*Domain, error) {
	options = options.withDefaults()
	template, err := l.template(ctx, options)
	if err != nil {
		return nil, err
	}
	d := &Domain{DomainOptions: options, lab: l}
	what, each := "starting the domain controller", 2*time.Second
	if options.DCs > 1 {
		what = fmt.Sprintf("starting %d domain controllers", options.DCs)
	}
	err = l.progress.step(what, each*time.Duration(options.DCs), func() error {
		for number := 1; number <= options.DCs; number++ {
			name, layer := fmt.Sprint("dc", number), template
			if options.DCs > 1 {
				layer = filepath.Join(template, name)
			}
			dc, err := l.startDCMachine(ctx, options, name, []string{layer})
			if err != nil {
				return err
			}
			if err := dc.Start(ctx); err != nil {
				return err
			}
			d.adopt(dc)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, l.change(func(st *state) error { st.Domain = &options; return nil })
}

// OpenDomain returns the domain of a lab that another process started.
func (l *Lab) OpenDomain() (*Domain, error) {
	st, err := l.load()
	if err != nil {
		return nil, err
	}
	if st.Domain == nil {
		return nil, fmt.Errorf("lab %s has no domain", l.Name)
	}
	d := &Domain{DomainOptions: *st.Domain, lab: l}
	var machines []machineInfo
	for _, info := range st.Machines {
		if info.Kind == "dc" && info.Port != "" {
			machines = append(machines, info)
		}
	}
	slices.SortFunc(machines, func(a, b machineInfo) int { return cmp.Compare(a.IP, b.IP) })
	for _, info := range machines {
		d.adopt(&DC{Machine: &Machine{lab: l, info: info}, options: *st.Domain})
	}
	if d.DC == nil {
		return nil, errors.New("the domain has no domain controller")
	}
	return d, nil
}

func (d *Domain) adopt(dc *DC) {
	d.DCs = append(d.DCs, dc)
	if d.DC == nil {
		d.DC = dc
		d.db = &samdb{machine: dc.Machine}
	}
}

// Apply makes a change, or searches, on the domain controller DC.
func (d *Domain) Apply(ctx context.Context, change Change) ([]Entry, error) {
	return d.db.do(ctx, change)
}

// ApplyAll makes changes in one transaction: all of them, or none.
func (d *Domain) ApplyAll(ctx context.Context, changes []Change) error {
	_, err := d.db.do(ctx, Change{Op: "batch", All: changes})
	return err
}

// Search reads objects below base with the rights of the system.
func (d *Domain) Search(ctx context.Context, base, filter string, attrs ...string) ([]Entry, error) {
	return d.db.do(ctx, Change{Op: "search", Base: base, Scope: "sub", Filter: filter, Attrs: attrs})
}

// Rebuild replaces the domain by another one of the same name and address, as
// when an admin deletes and recreates a managed domain: other SIDs, GUIDs and
// keys, no computer, no change made since. The options must differ in Variant.
func (d *Domain) Rebuild(ctx context.Context, variant string, population Population) error {
	if variant == d.Variant {
		return fmt.Errorf("a rebuilt domain needs a variant other than %q", variant)
	}
	d.db.Close()
	for _, dc := range d.DCs {
		if err := dc.PowerOff(ctx); err != nil {
			return err
		}
	}
	options := d.DomainOptions
	options.Variant, options.Population = variant, population
	again, err := d.lab.Domain(ctx, options)
	if err != nil {
		return err
	}
	*d = *again
	return nil
}

// CA returns the certificate of the authority that signed the DC's, in PEM.
func (d *Domain) CA(ctx context.Context) ([]byte, error) {
	return d.DC.ReadFile(ctx, "/var/lib/samba/private/tls/ca.pem")
}
