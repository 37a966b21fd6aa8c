// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// doctorParts looks at what runs and lies about on this machine besides the
// daemon, once it is a member; bad says that something of it matters.
func (a *app) doctorParts(ctx context.Context, st *latchkeyv1.Status) (bad bool, err error) {
	sockets, names := a.checkSockets(), a.checkNamesFile(st)
	bad = sockets != nil || names != nil
	if err := a.finding("sockets", "Sockets", sockets, "both are there", false); err != nil {
		return bad, err
	}
	if err := a.finding("names-file", "Published names", names, "", false); err != nil {
		return bad, err
	}
	if err := a.finding("pam", "PAM asks latchkey", a.checkPAM(), "", true); err != nil || !a.root {
		return bad, err
	}
	if err := a.finding("keytab", "Root's copy of the host keys", a.checkKeytab(st), "/etc/krb5.keytab has the key in use", true); err != nil {
		return bad, err
	}
	return bad, a.doctorTickets(ctx, st)
}

// at places a path of the machine under the root that is looked at.
func (c *console) at(path string) string { return filepath.Join(c.krb5.Root, path) }

func (a *app) checkSockets() error {
	for _, path := range []string{a.apiSocket, a.adminSocket} {
		info, err := os.Stat(path)
		if err == nil && info.Mode()&fs.ModeSocket == 0 {
			err = errors.New("it is no socket")
		}
		if err != nil {
			return fault.WithRemedy(fault.Wrap(fault.NotFound, "look at "+path, err), "systemctl restart latchkeyd.socket latchkeyd.service")
		}
	}
	return nil
}

// checkNamesFile looks at what the NSS module reads: it takes a file of root's
// only that nobody else may write.
func (a *app) checkNamesFile(st *latchkeyv1.Status) error {
	path := config.SnapshotDir + "/identities"
	const remedy = "systemctl restart latchkeyd writes it anew"
	info, err := os.Lstat(a.at(path))
	if errors.Is(err, fs.ErrNotExist) && st.GetSnapshotGeneration() == 0 {
		return fault.WithRemedy(fault.Errorf(fault.NotFound, "%s is not written yet", path), "it comes within seconds of the first pass: look again; if it does not, journalctl -u latchkeyd")
	}
	if err != nil {
		return fault.WithRemedy(fault.Wrap(fault.NotFound, "look at "+path, err), remedy)
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s is no file", path), "remove it; "+remedy)
	case info.Mode().Perm() != 0o644:
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s has mode %o, not 644", path, info.Mode().Perm()), remedy)
	case ok && sys.Uid != 0 && (a.krb5.Root == "" || a.krb5.Root == "/"):
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s belongs to uid %d, and programs believe root's only", path, sys.Uid), remedy)
	}
	return nil
}

// checkPAM looks whether the machine's PAM stacks have our module.
func (a *app) checkPAM() error {
	var missing []string
	for _, stack := range []string{"common-auth", "common-account", "common-password", "common-session"} {
		text, err := os.ReadFile(a.at("/etc/pam.d/" + stack))
		if err != nil || !named(string(text), "pam_latchkey.so") {
			missing = append(missing, stack)
		}
	}
	switch {
	case len(missing) == 0:
		return nil
	case len(missing) == 1 && missing[0] == "common-password":
		return fault.WithRemedy(fault.New(fault.NotFound, "pam_latchkey.so is not in common-password"),
			"until then passwd changes no password of the domain: pam-auth-update --enable latchkey-password")
	}
	return fault.WithRemedy(fault.Errorf(fault.NotFound, "pam_latchkey.so is not in %s", strings.Join(missing, ", ")),
		"until then sshd, login, su and sudo let nobody of the domain in: pam-auth-update --enable latchkey latchkey-password")
}

// named says whether a line that is no comment has a word.
func named(text, word string) bool {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, w := range strings.Fields(line) {
			if w == word || strings.HasSuffix(w, "/"+word) {
				return true
			}
		}
	}
	return false
}

// checkKeytab compares the version of the key that sshd has with the one in use.
func (a *app) checkKeytab(st *latchkeyv1.Status) error {
	kt, err := kerberos.ReadKeytab(a.at("/etc/krb5.keytab"))
	const remedy = "latchkey machine rotate writes both keytabs; until then sshd takes no tickets"
	if err != nil {
		return fault.WithRemedy(err, remedy)
	}
	defer kt.Wipe()
	who := kerberos.Account(st.GetComputerAccount(), st.GetRealm())
	if have := kt.Newest(who); have < uint32(st.GetKeyVersion()) {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "/etc/krb5.keytab has version %d of the key of %s, version %d is in use", have, who, st.GetKeyVersion()), remedy)
	}
	return nil
}
