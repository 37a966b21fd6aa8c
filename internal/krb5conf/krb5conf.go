// SPDX-License-Identifier: Apache-2.0

// Package krb5conf writes the Kerberos files that the rest of the machine
// reads: /etc/krb5.conf.d/latchkey.conf, an include line in /etc/krb5.conf, and
// root's copy of the host keys in /etc/krb5.keytab.
//
// It is called by root: the CLI for the configuration, the monitor for the
// keys. What is there already is kept, shown as a diff where it disagrees, and
// saved beside the file before anything in it changes; Remove undoes what
// Apply did and nothing else. The package never asks the network and never
// keeps a record of its own: what it did can be read from the files.
package krb5conf

import (
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Settings are what the files say.
type Settings struct {
	Realm  string   // "AADDS.CONTOSO.TEST"
	Domain string   // "aadds.contoso.test"
	KDCs   []string // addresses or host names; empty: DNS finds them
}

// Files are the files under one root; "" or "/" is the machine's own.
type Files struct{ Root string }

// Change is one file that would change. Before is nil for a new file, After nil
// for one that goes.
type Change struct {
	Path          string // as seen from the root: "/etc/krb5.conf"
	Before, After []byte
}

// Diff returns the change as a unified diff, "" when nothing changes.
func (c Change) Diff() string { return "" }

// Plan is what Apply would do.
type Plan struct {
	Changes []Change
	// Notes say what of the existing files stays or is overruled, one sentence each.
	Notes []string
}

// Plan reads the files and says what has to change; nothing is written. A file
// that cannot be merged is fault.Conflict with the diff in the error's text.
func (f Files) Plan(s Settings) (*Plan, error) { return nil, errUnbuilt }

// Apply carries the plan out; doing it twice changes nothing more. The
// originals of changed files are kept beside them, named *.before-latchkey.
func (f Files) Apply(s Settings) (*Plan, error) { return nil, errUnbuilt }

// PlanRemove says what Remove would do.
func (f Files) PlanRemove() (*Plan, error) { return nil, errUnbuilt }

// Remove undoes what Apply did, and leaves what others changed since.
func (f Files) Remove() (*Plan, error) { return nil, errUnbuilt }

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

// MaxKeytab is the longest keytab that InstallHostKeys takes, in bytes.
const MaxKeytab = 64 << 10

// InstallHostKeys puts the host/ and machine account keys of k into
// /etc/krb5.keytab, in place of older ones of the same principals; entries of
// others stay. Anything in k but AES keys of that very host is fault.Malformed.
func (f Files) InstallHostKeys(k HostKeys) error { return errUnbuilt }

// RemoveHostKeys takes the keys of h out again; a file that holds nothing else
// goes, and what InstallHostKeys replaced comes back.
func (f Files) RemoveHostKeys(h Host) error { return errUnbuilt }

var errUnbuilt = fault.New(fault.Internal, "not built yet")
