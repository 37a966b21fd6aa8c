// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// machineKeytab signs in as the machine with its new password, which proves
// that the domain took it and tells how the keys are made of it, and returns
// the keytab: the account and every SPN, AES256 and AES128.
func machineKeytab(ctx context.Context, k kdc, p *plan, password secret.Bytes, kvno uint32, at time.Time) (*kerberos.Keytab, uint32, error) {
	who := kerberos.Account(p.account(), p.realm())
	login, err := k.Login(ctx, who, kerberos.Password(password))
	if err != nil {
		return nil, 0, fault.WithRemedy(fault.Wrap(signInKind(err), "sign in as "+p.account()+" with the new password", err),
			"the account is made, its keys are not proved yet: run the same join again")
	}
	login.TGT.Wipe()
	if login.KVNO != 0 {
		kvno = login.KVNO
	}
	entries, err := machineEntries(p, login, password, kvno, at)
	if err != nil {
		return nil, 0, err
	}
	return &kerberos.Keytab{Entries: entries}, kvno, nil
}

// machineEntries makes the keytab's entries of a password: the account and every
// SPN, AES256 and AES128. login tells how the domain makes keys of this
// account's passwords.
func machineEntries(p *plan, login *kerberos.Login, password secret.Bytes, kvno uint32, at time.Time) ([]kerberos.KeytabEntry, error) {
	who := kerberos.Account(p.account(), p.realm())
	infos := slices.Clone(login.Keys)
	for _, e := range []kerberos.EType{kerberos.AES256, kerberos.AES128} {
		if !slices.ContainsFunc(infos, func(i kerberos.KeyInfo) bool { return i.EType == e }) {
			// Not told: the other type's salt is this one's as well.
			info := kerberos.KeyInfo{EType: e, Salt: kerberos.MachineSalt(p.account(), p.domain)}
			if len(login.Keys) > 0 {
				info.Salt = login.Keys[0].Salt
			}
			infos = append(infos, info)
		}
	}
	var keys []kerberos.Key
	for _, info := range infos {
		if info.EType != kerberos.AES256 && info.EType != kerberos.AES128 {
			continue
		}
		key, err := kerberos.DeriveKey(password, info)
		if err != nil {
			return nil, fault.Wrap(fault.Unknown, "make the machine's keys", err)
		}
		keys = append(keys, key)
	}
	who.Type = kerberos.NTPrincipal
	principals := []kerberos.Principal{who}
	for _, spn := range spns(p.short, p.fqdn()) {
		class, host, _ := strings.Cut(spn, "/")
		principals = append(principals, kerberos.Service(class, host, p.realm()))
	}
	return kerberos.MachineEntries(principals, keys, kvno, at), nil
}

// signInKind is the kind of a failure to sign in as the machine itself: its
// password is ours, so a refusal is no wrong credential of the caller's.
func signInKind(err error) fault.Kind {
	if k := fault.KindOf(err); k == fault.Unreachable || k == fault.Malformed {
		return k
	}
	return fault.Internal
}

// settle writes the names and the encryption types that the machine's own
// object should have, as the machine itself or, where it may not, as the user.
// SPNs of others (an NFS server's) stay.
func settle(ctx context.Context, s *Step, machine, user tree, p *plan, dn string) error {
	e, err := machine.Get(ctx, dn, computerAttributes...)
	if err != nil {
		return fault.Wrap(fault.Unknown, "read the machine's own object", err)
	}
	have, err := readComputer(e)
	if err != nil {
		return err
	}
	write := func(what string, change directory.Change) error {
		err := machine.Modify(ctx, dn, []directory.Change{change})
		if err != nil && user != nil {
			err = user.Modify(ctx, dn, []directory.Change{change})
		}
		if ldapCode(err) == ldapConstraint {
			return fault.WithRemedy(fault.Wrap(fault.Conflict, what+" is refused: another object of the forest has it, or it does not fit the domain", err),
				"choose another name with --hostname")
		}
		return fault.Wrap(fault.Unknown, "set "+what, err)
	}
	// The DNS name first: a machine may only set SPNs that fit it (validated
	// write, MS-ADTS 3.1.1.5.3.1.1.4).
	if !strings.EqualFold(have.dnsHost, p.fqdn()) {
		if err := write("the DNS name "+p.fqdn(), directory.Change{Op: directory.Replace, Attribute: directory.Text("dNSHostName", p.fqdn())}); err != nil {
			return err
		}
	}
	var missing []string
	for _, spn := range spns(p.short, p.fqdn()) {
		if !slices.ContainsFunc(have.spns, func(h string) bool { return strings.EqualFold(h, spn) }) {
			missing = append(missing, spn)
		}
	}
	if len(missing) > 0 {
		if err := write("the service names "+strings.Join(missing, ", "), directory.Change{Op: directory.AddValues, Attribute: directory.Text("servicePrincipalName", missing...)}); err != nil {
			return err
		}
	}
	s.Detail = strings.Join(spns(p.short, p.fqdn()), ", ")
	if have.encTypes != aesOnly {
		if err := write("the encryption types", directory.Change{Op: directory.Replace, Attribute: directory.Text("msDS-SupportedEncryptionTypes", aesOnly)}); err != nil {
			// The KDC has AES keys of the account all the same.
			s.warn(s.Detail+"; "+cause(err), "set msDS-SupportedEncryptionTypes of "+dn+" to "+aesOnly+", so that nobody is given an RC4 ticket for this machine")
		}
	}
	return nil
}

// prove signs in with the keytab as written, and opens a ticket for this
// machine with it: what sshd, smbd and the web UI will do.
func prove(ctx context.Context, k kdc, p *plan, path string) error {
	kt, err := kerberos.ReadKeytab(path)
	if err != nil {
		return err
	}
	defer kt.Wipe()
	login, err := k.Login(ctx, kerberos.Account(p.account(), p.realm()), kt)
	if err != nil {
		return fault.Wrap(signInKind(err), "sign in with the keytab", err)
	}
	defer login.TGT.Wipe()
	if _, err := k.Verify(ctx, login.TGT, kerberos.Service("host", p.fqdn(), p.realm()), kt); err != nil {
		return fault.Wrap(signInKind(err), fmt.Sprintf("open a ticket for host/%s", p.fqdn()), err)
	}
	return nil
}
