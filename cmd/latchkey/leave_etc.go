// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
)

// leaveEtc takes back everything of latchkey's that is in /etc, and asks nobody:
// neither the daemon nor the domain. The package calls it before its programs go,
// and an administrator whose daemon does not start.
func (a *app) leaveEtc(ctx context.Context) error {
	if !a.root {
		return fault.WithRemedy(fault.New(fault.Denied, "leave --etc-only is root's: it changes files in /etc"), "run it as root, by sudo")
	}
	if err := a.krb5Undo(ctx, false); err != nil {
		return err
	}
	detail, err := a.hostKeysUndo()
	bad := err != nil
	if err := a.finding("host-keys", "Take the host keys out of root's keytab", err, detail, false); err != nil {
		return err
	}
	detail, err = a.sudoUndo()
	bad = bad || err != nil
	if err := a.finding("sudo", "Take the groups of the domain out of /etc/sudoers.d", err, detail, false); err != nil {
		return err
	}
	if err := a.sambaStays(); err != nil {
		return err
	}
	return a.verdict(bad)
}

// hostKeysUndo takes this machine's keys out of root's copy; whose they are is
// read in the daemon's own keytab.
func (a *app) hostKeysUndo() (string, error) {
	const none = "there are none"
	own, err := kerberos.ReadKeytab(a.at(config.KeytabFile))
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return "", fault.WithRemedy(err, "remove the entries of this machine from /etc/krb5.keytab with ktutil")
	}
	defer own.Wipe()
	hosts := hostsOf(own)
	if len(hosts) == 0 {
		return none, nil
	}
	for _, h := range hosts {
		if err := a.krb5.RemoveHostKeys(h); err != nil {
			return "", fault.WithRemedy(err, "remove the entries of "+h.FQDN+" from /etc/krb5.keytab with ktutil")
		}
	}
	return "/etc/krb5.keytab", nil
}

// hostsOf names the machines that a keytab of ours has keys of: one, but for a
// keytab that outlived a change of the machine's name.
func hostsOf(kt *kerberos.Keytab) []krb5conf.Host {
	var hosts []krb5conf.Host
	seen := map[krb5conf.Host]bool{}
	for _, account := range kt.Entries {
		if len(account.Principal.Name) != 1 || !strings.HasSuffix(account.Principal.Name[0], "$") {
			continue
		}
		sam := account.Principal.Name[0]
		for _, e := range kt.Entries {
			if len(e.Principal.Name) != 2 || e.Principal.Name[0] != "host" || e.Principal.Realm != account.Principal.Realm {
				continue
			}
			h := krb5conf.Host{Realm: e.Principal.Realm, Account: sam, FQDN: e.Principal.Name[1]}
			label, domain, _ := strings.Cut(h.FQDN, ".")
			if domain != "" && strings.EqualFold(label, strings.TrimSuffix(sam, "$")) && !seen[h] {
				seen[h] = true
				hosts = append(hosts, h)
			}
		}
	}
	return hosts
}

// sudoUndo takes the right to use sudo away from every group that got it by
// `latchkey access sudo`: without the daemon their numbers are nobody's.
func (a *app) sudoUndo() (string, error) {
	files := a.sudoers()
	all, err := files.List()
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "there are none", nil
	}
	names := make([]string, len(all))
	for i, g := range all {
		if err := files.Remove(g); err != nil {
			return "", err
		}
		names[i] = tame(g.Name)
	}
	return strings.Join(names, ", "), nil
}
