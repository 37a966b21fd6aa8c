// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// AddDC adds a domain controller with a host name of its own, replicates the
// domain to it and back, and registers it in DNS, where the first DC must be
// running. A domain that is to have two from the start is ready sooner with
// DomainOptions.DCs.
func (d *Domain) AddDC(ctx context.Context, hostname string) (*DC, error) {
	var dc *DC
	err := d.lab.progress.step("joining the domain controller "+hostname, 12*time.Second, func() (err error) {
		if err := d.DC.setReplicating(ctx); err != nil {
			return err
		}
		dc, err = d.join(ctx, hostname)
		return err
	})
	if err != nil {
		return nil, err
	}
	d.adopt(dc)
	d.DomainOptions.DCs = len(d.DCs)
	err = d.lab.progress.step("waiting until "+hostname+" and the others agree", 5*time.Second, func() error {
		// The others would look for new ones once a minute only.
		for _, other := range d.DCs {
			kcc := d.DC.Command("samba-tool", "drs", "kcc", other.FQDN(), "-U", AdminUser)
			kcc.Env = []string{"PASSWD=" + AdminPassword}
			if _, err := kcc.Output(ctx); err != nil {
				return err
			}
		}
		return d.WaitReplicated(ctx)
	})
	if err != nil {
		return nil, err
	}
	return dc, d.lab.change(func(st *state) error { st.Domain = &d.DomainOptions; return nil })
}

// setReplicating makes a DC that was alone look for others.
func (d *DC) setReplicating(ctx context.Context) error {
	conf := smbConf(d.options, strings.ToUpper(d.Hostname()), true)
	if old, err := d.ReadFile(ctx, "/etc/samba/smb.conf"); err != nil || string(old) == conf {
		return err
	}
	if err := d.WriteFile(ctx, "/etc/samba/smb.conf", []byte(conf), 0o644); err != nil {
		return err
	}
	return d.Restart(ctx)
}

// join makes a machine, joins it to the domain as a DC and starts it.
func (d *Domain) join(ctx context.Context, hostname string) (*DC, error) {
	dc, err := d.lab.startDCMachine(ctx, d.DomainOptions, hostname, nil)
	if err != nil {
		return nil, err
	}
	const joining = `rm -rf /etc/samba/smb.conf /var/lib/samba/private/*
samba-tool domain join "$1" DC -U "$2" --dns-backend=SAMBA_INTERNAL --option="vfs objects=dfs_samba4 acl_xattr"`
	command := dc.Command("sh", "-euc", joining, "join", d.DNS, AdminUser)
	command.Env = []string{"PASSWD=" + AdminPassword}
	if _, err := command.Output(ctx); err != nil {
		return nil, err
	}
	if err := dc.WriteFile(ctx, "/etc/samba/smb.conf", []byte(smbConf(d.DomainOptions, strings.ToUpper(hostname), true)), 0o644); err != nil {
		return nil, err
	}
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		path := "/var/lib/samba/private/tls/" + name
		data, err := d.DC.ReadFile(ctx, path)
		if err != nil {
			return nil, err
		}
		if err := dc.WriteFile(ctx, path, data, 0o600); err != nil {
			return nil, err
		}
	}
	if err := dc.Start(ctx); err != nil {
		return nil, err
	}
	if _, err := dc.Output(ctx, "samba_spnupdate"); err != nil {
		return nil, err
	}
	// nsupdate does not believe the signature of Samba's answers and reports
	// failure; what counts is that the records are there.
	if _, err := dc.Run(ctx, "samba_dnsupdate"); err != nil {
		return nil, err
	}
	return dc, poll(ctx, 200*time.Millisecond, "DNS does not know "+hostname, func() error {
		found, err := d.DC.Output(ctx, "dig", "+short", "@"+d.DC.IP(), "SRV", "_ldap._tcp.dc._msdcs."+d.DNS)
		if err == nil && !strings.Contains(strings.ToLower(found), strings.ToLower(hostname)+".") {
			err = fmt.Errorf("found %q", found)
		}
		return err
	})
}

// At returns the domain as one of its controllers sees it: changes are made
// there, also when the first one is gone.
func (d *Domain) At(dc *DC) *Domain {
	view := *d
	view.DC, view.db = dc, &samdb{machine: dc.Machine}
	return &view
}

// WaitReplicated waits until what was changed on any DC is known on all. It
// leaves a mark in CN=System for that.
func (d *Domain) WaitReplicated(ctx context.Context) error {
	for _, from := range d.DCs {
		mark := rand.Text()
		source := d.At(from)
		err := source.mark(ctx, mark)
		source.db.Close()
		if err != nil {
			return err
		}
		for _, to := range d.DCs {
			view := d.At(to)
			err := poll(ctx, 100*time.Millisecond, fmt.Sprintf("%s does not learn from %s", to.Name(), from.Name()), func() error {
				found, err := view.db.do(ctx, Change{Op: "search", Base: view.markDN(from), Scope: "base", Attrs: []string{"description"}})
				if err == nil && (len(found) != 1 || found[0].Get("description") != mark) {
					err = errors.New("the mark is an old one")
				}
				return err
			})
			view.db.Close()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Domain) markDN(dc *DC) string { return "CN=lab-" + dc.Hostname() + ",CN=System," + d.BaseDN() }

func (d *Domain) mark(ctx context.Context, text string) error {
	set := map[string][][]byte{"description": Text(text)}
	_, err := d.db.do(ctx, Change{Op: "modify", DN: d.markDN(d.DC), Set: set})
	var refused *ChangeError
	const noSuchObject = 32
	if errors.As(err, &refused) && refused.Code == noSuchObject {
		set["objectClass"] = Text("container")
		_, err = d.db.do(ctx, Change{Op: "add", DN: d.markDN(d.DC), Set: set})
	}
	return err
}

// RemoveDC takes a domain controller other than the first away for good: the
// machine, its objects and its records, as when the managed domain replaces
// one.
func (d *Domain) RemoveDC(ctx context.Context, dc *DC) error {
	if dc.Name() == d.DCs[0].Name() {
		return errors.New("the first domain controller holds the roles and stays")
	}
	if err := dc.PowerOff(ctx); err != nil {
		return err
	}
	d.DCs = slices.DeleteFunc(d.DCs, func(other *DC) bool { return other.Name() == dc.Name() })
	d.DomainOptions.DCs = len(d.DCs)
	if _, err := d.DCs[0].Output(ctx, "samba-tool", "domain", "demote", "--remove-other-dead-server="+strings.ToUpper(dc.Hostname())); err != nil {
		return err
	}
	return d.lab.change(func(st *state) error { st.Domain = &d.DomainOptions; return nil })
}

// replicaTemplate makes a domain of several DCs in a lab of its own, and keeps
// the disks of all of them.
func (l *Lab) replicaTemplate(ctx context.Context, options DomainOptions) (string, error) {
	return cached(ctx, l.templateKey(options), l.progress, func(dir string) error {
		scratch, err := Up(ctx, Options{Base: l.base, Progress: l.progress})
		if err != nil {
			return err
		}
		defer scratch.Close()
		alone := options
		alone.DCs = 1
		d, err := scratch.Domain(ctx, alone)
		if err != nil {
			return err
		}
		for number := 2; number <= options.DCs; number++ {
			if _, err := d.AddDC(ctx, fmt.Sprint("dc", number)); err != nil {
				return err
			}
		}
		d.db.Close()
		for _, dc := range d.DCs {
			if err := dc.Stop(ctx); err != nil {
				return err
			}
			if err := dc.keepDisk(ctx, filepath.Join(dir, dc.Name())); err != nil {
				return err
			}
		}
		return nil
	})
}
