// SPDX-License-Identifier: Apache-2.0

package krb5conf

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

const keytabFile = "/etc/krb5.keytab"

// Host names the machine whose keys are meant.
type Host struct {
	Realm   string // "AADDS.CONTOSO.TEST"
	Account string // "NAS$"
	FQDN    string // "nas.aadds.contoso.test"
}

// HostKeys are keys to install.
type HostKeys struct {
	Host
	Keytab secret.Bytes // MIT keytab file, at most MaxKeytab bytes
}

// Limits of InstallHostKeys: far above a machine with a dozen key versions.
const (
	MaxKeytab  = 64 << 10 // bytes
	maxEntries = 512
)

// classes are the service classes that a computer account may have keys of.
// Only the first is installed: the other services have the keytab of their own
// daemon, and root's copy is for sshd.
var classes = []string{"host", "HTTP", "cifs", "RestrictedKrbHost"}

func (h Host) short() string { return strings.ToLower(strings.TrimSuffix(h.Account, "$")) }

// check refuses a host that names anything but one machine of one domain.
func (h Host) check() error {
	label, domain, _ := strings.Cut(h.FQDN, ".")
	switch {
	case !hostName(h.Realm) || h.Realm != strings.ToUpper(h.Realm):
		return fault.Errorf(fault.Malformed, "not a realm: %.200q", h.Realm)
	case !strings.HasSuffix(h.Account, "$") || !hostName(h.short()) || strings.Contains(h.short(), ".") || len(h.short()) > 15:
		return fault.Errorf(fault.Malformed, "not a computer account: %.200q", h.Account)
	case !hostName(h.FQDN) || domain == "" || !strings.EqualFold(label, h.short()):
		return fault.Errorf(fault.Malformed, "not the name of %s: %.200q", h.Account, h.FQDN)
	}
	return nil
}

// owns reports whether p is one of the host's principals, and whether its keys
// belong into root's copy.
func (h Host) owns(p kerberos.Principal) (ours, install bool) {
	if p.Realm != h.Realm {
		return false, false
	}
	switch len(p.Name) {
	case 1:
		ours = strings.EqualFold(p.Name[0], h.Account)
		return ours, ours
	case 2:
		if !strings.EqualFold(p.Name[1], h.FQDN) && !strings.EqualFold(p.Name[1], h.short()) {
			return false, false
		}
		class := slices.IndexFunc(classes, func(c string) bool { return strings.EqualFold(c, p.Name[0]) })
		return class >= 0, class == 0
	}
	return false, false
}

// entries reads and checks the keys: the bytes come from a process that has
// fewer rights than this one.
func (k HostKeys) entries() ([]kerberos.KeytabEntry, error) {
	if k.Keytab.Len() > MaxKeytab {
		return nil, fault.Errorf(fault.Malformed, "a keytab of %d bytes", k.Keytab.Len())
	}
	kt, err := kerberos.ParseKeytab(k.Keytab.Reveal())
	if err != nil {
		return nil, err
	}
	if len(kt.Entries) > maxEntries {
		return nil, fault.Errorf(fault.Malformed, "a keytab of %d keys", len(kt.Entries))
	}
	var keys []kerberos.KeytabEntry
	for _, e := range kt.Entries {
		ours, install := k.owns(e.Principal)
		if size := e.Key.Value.Len(); !ours || e.KVNO == 0 ||
			(e.Key.EType != kerberos.AES256 || size != 32) && (e.Key.EType != kerberos.AES128 || size != 16) {
			return nil, fault.Errorf(fault.Malformed, "the keytab holds something else than AES keys of %s: %.200q, version %d, etype %d",
				k.Account, e.Principal.String(), e.KVNO, e.Key.EType)
		}
		if install {
			keys = append(keys, e)
		} else {
			e.Key.Value.Wipe()
		}
	}
	if len(keys) == 0 {
		return nil, fault.Errorf(fault.Malformed, "the keytab holds no host key of %s", k.Account)
	}
	return keys, nil
}

// InstallHostKeys puts the host/ and machine account keys of k into
// /etc/krb5.keytab, in place of older ones of the same principals; entries of
// others stay. Anything in k but AES keys of that very host is
// fault.Malformed. A file that is there and is no keytab, or a link, is
// fault.Conflict. What other software had put there for the same principals
// is kept beside the file until RemoveHostKeys.
func (f Files) InstallHostKeys(k HostKeys) error {
	if err := k.check(); err != nil {
		return err
	}
	keys, err := k.entries()
	if err != nil {
		return err
	}
	defer (&kerberos.Keytab{Entries: keys}).Wipe()
	root, err := f.open()
	if err != nil {
		return err
	}
	defer root.Close()
	kt, err := readKeytab(root, keytabFile)
	if err != nil {
		return err
	}
	defer kt.Wipe()
	replaced, stay := split(kt, k.Host)
	if len(replaced) > 0 && !slices.ContainsFunc(replaced, func(old kerberos.KeytabEntry) bool {
		return slices.ContainsFunc(keys, func(e kerberos.KeytabEntry) bool { return sameKey(old, e) })
	}) {
		// None of them is a key that we know: they are not of our making.
		text, err := kt.Marshal()
		if err != nil {
			return err
		}
		defer secret.Wipe(text)
		if _, err := etcfile.Keep(root, keytabFile, text); err != nil {
			return err
		}
	}
	kt.Entries = stay
	kt.Add(keys...)
	return f.writeKeytab(root, kt)
}

// RemoveHostKeys takes the keys of h out again; a file that holds nothing else
// goes, and what InstallHostKeys replaced comes back.
func (f Files) RemoveHostKeys(h Host) error {
	if err := h.check(); err != nil {
		return err
	}
	root, err := f.open()
	if err != nil {
		return err
	}
	defer root.Close()
	kt, err := readKeytab(root, keytabFile)
	if err != nil {
		return err
	}
	defer kt.Wipe()
	had := len(kt.Entries)
	_, kt.Entries = split(kt, h)
	before, err := readKeytab(root, etcfile.BackupName(keytabFile, 0))
	if err != nil {
		return err
	}
	defer before.Wipe()
	back, _ := split(before, h)
	kt.Entries = append(kt.Entries, back...)
	switch {
	case len(kt.Entries) == 0 && had > 0:
		err = etcfile.Remove(root, keytabFile)
	case len(kt.Entries) != had || len(back) > 0:
		err = f.writeKeytab(root, kt)
	}
	if err != nil {
		return err
	}
	if len(back) > 0 {
		return etcfile.Remove(root, etcfile.BackupName(keytabFile, 0))
	}
	return nil
}

// split parts the entries into those of h that we install, and the rest.
func split(kt *kerberos.Keytab, h Host) (ours, rest []kerberos.KeytabEntry) {
	for _, e := range kt.Entries {
		if _, install := h.owns(e.Principal); install {
			ours = append(ours, e)
		} else {
			rest = append(rest, e)
		}
	}
	return ours, rest
}

func sameKey(a, b kerberos.KeytabEntry) bool {
	return a.KVNO == b.KVNO && a.Key.EType == b.Key.EType && a.Principal.Equal(b.Principal) && a.Key.Value.Equal(b.Key.Value)
}

// readKeytab reads a keytab; a missing one is empty.
func readKeytab(root *os.Root, name string) (*kerberos.Keytab, error) {
	if _, err := etcfile.Plain(root, name); err != nil {
		return nil, err
	}
	text, err := etcfile.Read(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return &kerberos.Keytab{}, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Conflict, "read "+name, err)
	}
	defer secret.Wipe(text)
	if len(text) == 0 {
		return &kerberos.Keytab{}, nil
	}
	kt, err := kerberos.ParseKeytab(text)
	if err != nil {
		return nil, fault.WithRemedy(fault.Wrap(fault.Conflict, "read "+name, err), "move the file away: it is no keytab")
	}
	return kt, nil
}

// writeKeytab replaces the file, mode 0600 whatever it was.
func (f Files) writeKeytab(root *os.Root, kt *kerberos.Keytab) error {
	text, err := kt.Marshal()
	if err != nil {
		return err
	}
	defer secret.Wipe(text)
	if st, err := root.Lstat(etcfile.Rel(keytabFile)); err == nil && st.Mode().Perm() != 0o600 {
		// Tighten before the new keys are in it, not after.
		if err := root.Chmod(etcfile.Rel(keytabFile), 0o600); err != nil {
			return fault.Wrap(fault.Internal, "write "+keytabFile, err)
		}
	}
	return etcfile.Write(root, keytabFile, text, 0o600)
}
