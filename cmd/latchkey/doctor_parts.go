// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/smbconf"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// doctorParts looks at what runs and lies about on this machine besides the
// daemon, once it is a member; bad says that something of it matters. What an
// administrator has not switched on is no finding.
func (a *app) doctorParts(ctx context.Context, conn *client.Conn, st *latchkeyv1.Status) (bad bool, err error) {
	looks := []look{
		{"sockets", "Sockets", false, a.lookSockets},
		{"names-file", "Published names", false, func(context.Context) (string, error) { return a.lookNamesFile(st) }},
		{"disk", "Room on the disk", false, a.lookDisk},
		{"pam", "PAM asks latchkey", true, func(ctx context.Context) (string, error) { return a.lookPAM(ctx, conn) }},
	}
	if a.root {
		looks = append(looks, look{"keytab", "Root's copy of the host keys", true, func(context.Context) (string, error) { return a.lookKeytab(st) }})
		if c, err := config.Load(a.configFile, a.folder); err == nil && c.Web.Listen != "" { // the configuration has its own line
			looks = append(looks,
				look{"web-certificate", "Certificate of the web", true, func(context.Context) (string, error) { return a.lookCertificate(c) }},
				look{"web-tickets", "Sign-in to the web by a ticket", true, func(context.Context) (string, error) { return a.lookTickets(st, c) }})
		}
	}
	for _, l := range looks {
		ill, err := a.lookAt(ctx, l)
		if err != nil {
			return bad, err
		}
		bad = bad || ill
	}
	if !a.root {
		return bad, nil
	}
	ill, err := a.doctorSamba(ctx)
	return bad || ill, err
}

// mild is what is not well and keeps nobody out, in a look that may find worse.
type mild struct{ error }

// Unwrap gives the error its kind and its remedy.
func (m mild) Unwrap() error { return m.error }

// lookAt prints one line; bad says that what was found matters.
func (a *app) lookAt(ctx context.Context, l look) (bad bool, err error) {
	detail, trouble := l.at(ctx)
	var little mild
	warn := l.warn || errors.As(trouble, &little)
	return trouble != nil && !warn, a.finding(l.id, l.title, trouble, detail, warn)
}

// doctorSamba looks at the pieces of `samba enable`, where it was typed, and
// prints those that are not well.
func (a *app) doctorSamba(ctx context.Context) (bad bool, err error) {
	const id, title = "samba", "Shares (SMB)"
	s := &samba{app: a}
	state, err := a.smb.State(smbconf.Main)
	if err != nil {
		return true, a.finding(id, title, err, "", false)
	}
	if !state.Made {
		return false, a.finding(id, title, nil, "not switched on", false)
	}
	if err = s.ask(ctx); err == nil {
		err = s.look("")
	}
	if err != nil {
		return true, a.finding(id, title, err, "", false)
	}
	well := true
	for _, l := range s.looks() {
		if _, err := l.at(ctx); err == nil {
			continue
		}
		well = false
		l.title = title + ": " + l.title
		ill, err := a.lookAt(ctx, l)
		if err != nil {
			return bad, err
		}
		bad = bad || ill
	}
	if well {
		return false, a.finding(id, title, nil, "as `latchkey samba enable` made it", false)
	}
	return bad, nil
}

// at places a path of the machine under the root that is looked at.
func (c *console) at(path string) string { return filepath.Join(c.krb5.Root, path) }

// sockets are those that are always open, with their modes (docs/admin.md). Where
// people of the domain administer, an access list says more about admin.sock; its
// mask is the group's part of the mode.
var sockets = []struct {
	name string
	mode fs.FileMode
}{{"api", 0o666}, {"admin", 0o660}, {"shim-root", 0o600}, {"auth", 0o666}, {"metrics", 0o600}}

func (a *app) lookSockets(context.Context) (string, error) {
	const remedy = "systemctl restart latchkeyd-*.socket latchkeyd.service, or whatever runs `latchkeyd run`"
	for _, s := range sockets {
		path := filepath.Join(filepath.Dir(a.apiSocket), s.name+".sock")
		info, err := os.Lstat(path)
		if err != nil {
			return "", fault.WithRemedy(fault.Wrap(fault.NotFound, "look at "+path, err), remedy)
		}
		sys, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case info.Mode()&fs.ModeSocket == 0:
			return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s is no socket", path), "remove it; "+remedy)
		case info.Mode().Perm() != s.mode:
			return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s has mode %o, not %o", path, info.Mode().Perm(), s.mode), remedy)
		case ok && sys.Uid != a.rootUID:
			return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s belongs to uid %d, not to root", path, sys.Uid), remedy)
		}
	}
	return "all are there, with their modes", nil
}

// The least room that a disk has to have: below the first the store may stop
// taking changes any moment, below the second somebody should look.
const (
	leastRoom = 16 << 20
	someRoom  = 128 << 20
)

// lookDisk looks where the daemon writes: the mirror, the names, the audit.
func (a *app) lookDisk(context.Context) (string, error) {
	least, where := uint64(1<<63), ""
	for _, dir := range []string{config.StateDir, config.SnapshotDir, config.LogDir} {
		var fs unix.Statfs_t
		if err := a.statfs(a.at(dir), &fs); err != nil {
			continue // its own line says what is not there
		}
		if fs.Files > 0 && fs.Ffree == 0 {
			return "", fault.WithRemedy(fault.Errorf(fault.Exhausted, "no file can be made in %s: no inode is free", dir), "remove files there")
		}
		if free := fs.Bavail * uint64(fs.Bsize); free < least {
			least, where = free, dir
		}
	}
	if where == "" {
		return "", nil
	}
	detail := fmt.Sprintf("%d MiB free in %s", least>>20, where)
	err := fault.WithRemedy(fault.New(fault.Exhausted, detail), "make room: changes of the domain, sign-ins' verifiers and the audit are written there; lookups go on without")
	switch {
	case least < leastRoom:
		return "", err
	case least < someRoom:
		return "", mild{err}
	}
	return detail, nil
}

// lookNamesFile looks at what the NSS module reads: it takes a file of root's
// only that nobody else may write.
func (a *app) lookNamesFile(st *latchkeyv1.Status) (string, error) {
	path := config.SnapshotDir + "/identities"
	const remedy = "systemctl restart latchkeyd writes it anew"
	info, err := os.Lstat(a.at(path))
	if errors.Is(err, fs.ErrNotExist) && st.GetSnapshotGeneration() == 0 {
		return "", fault.WithRemedy(fault.Errorf(fault.NotFound, "%s is not written yet", path), "it comes within seconds of the first pass: look again; if it does not, journalctl -u latchkeyd")
	}
	if err != nil {
		return "", fault.WithRemedy(fault.Wrap(fault.NotFound, "look at "+path, err), remedy)
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s is no file", path), "remove it; "+remedy)
	case info.Mode().Perm() != 0o644:
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s has mode %o, not 644", path, info.Mode().Perm()), remedy)
	case ok && sys.Uid != a.rootUID:
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s belongs to uid %d, and programs believe root's only", path, sys.Uid), remedy)
	}
	if st.GetSnapshotTime() == nil {
		return "", nil
	}
	return "written " + age(a.now(), st.GetSnapshotTime()) + " ago", nil
}

// lookPAM looks whether the machine's PAM stacks have our module. A machine of
// which nobody of the domain is to have a shell needs it in none.
func (a *app) lookPAM(ctx context.Context, conn *client.Conn) (string, error) {
	stacks := []string{"common-auth", "common-account", "common-password", "common-session"}
	var missing []string
	for _, stack := range stacks {
		text, err := os.ReadFile(a.at("/etc/pam.d/" + stack))
		if err != nil || !named(string(text), "pam_latchkey.so") {
			missing = append(missing, stack)
		}
	}
	switch {
	case len(missing) == 0:
		return "", nil
	case len(missing) == 1 && missing[0] == "common-password":
		return "", fault.WithRemedy(fault.New(fault.NotFound, "pam_latchkey.so is not in common-password"),
			"until then passwd changes no password of the domain: pam-auth-update --enable latchkey-password")
	case len(missing) == len(stacks) && !a.shellsAllowed(ctx, conn):
		return "not switched on, and no rule allows a shell", nil
	}
	return "", fault.WithRemedy(fault.Errorf(fault.NotFound, "pam_latchkey.so is not in %s", strings.Join(missing, ", ")),
		"until then sshd, login, su and sudo let nobody of the domain in: pam-auth-update --enable latchkey latchkey-password")
}

// shellsAllowed says whether a rule lets anybody use a service that asks PAM.
func (a *app) shellsAllowed(ctx context.Context, conn *client.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	rules, err := conn.Access.ListAccessRules(ctx, &latchkeyv1.ListAccessRulesRequest{})
	return err != nil || slices.ContainsFunc(rules.GetRules(), func(r *latchkeyv1.AccessRule) bool {
		return r.GetEffect() == latchkeyv1.AccessRule_EFFECT_ALLOW && r.GetService() != access.SMB && r.GetService() != access.Web
	})
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

// lookKeytab compares the version of the key that sshd has with the one in use;
// whether that is the domain's own, the last lines say.
func (a *app) lookKeytab(st *latchkeyv1.Status) (string, error) {
	kt, err := kerberos.ReadKeytab(a.at("/etc/krb5.keytab"))
	const remedy = "latchkey machine rotate writes both keytabs; until then sshd takes no tickets"
	if err != nil {
		return "", fault.WithRemedy(err, remedy)
	}
	defer kt.Wipe()
	who := kerberos.Account(st.GetComputerAccount(), st.GetRealm())
	if have := kt.Newest(who); have < uint32(st.GetKeyVersion()) {
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "/etc/krb5.keytab has version %d of the key of %s, version %d is in use", have, who, st.GetKeyVersion()), remedy)
	}
	return "/etc/krb5.keytab has the key in use", nil
}
