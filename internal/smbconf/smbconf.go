// SPDX-License-Identifier: Apache-2.0

// Package smbconf writes what smbd has to be told so that it asks latchkey: a
// fragment of its own, /etc/samba/latchkey.conf, and one include line in the
// administrator's smb.conf(5).
//
// The line comes last in the [global] section, where it has the last word; the
// rest of the file stays byte for byte, and Remove gives back what was there.
// What has to be known for that is written in the fragment's own head. The
// package runs nothing: whether Samba understands the file is testparm's
// business, and the command line's to ask.
package smbconf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Where the files are.
const (
	Main     = "/etc/samba/smb.conf" // unless the administrator says otherwise
	Fragment = "/etc/samba/latchkey.conf"
	Keytab   = "/etc/krb5.keytab" // root's copy of the host keys
)

// Settings are what the fragment says.
type Settings struct {
	Realm     string // "AADDS.CONTOSO.TEST"
	Workgroup string // the domain's NetBIOS name
	Netbios   string // the computer account without its dollar
	Low, High uint32 // the ids that latchkey gives
	// Aside are the domains for which smb.conf names a range of its own, of a
	// winbindd of before (IdmapDomains). testparm refuses ranges that overlap, and
	// nobody but winbindd reads these.
	Aside []string
}

// Parameter is one line of smb.conf, and why it is there.
type Parameter struct{ Name, Value, why string }

// Parameters returns what the fragment sets, in its order.
func (s Settings) Parameters() []Parameter {
	all := []Parameter{
		{"server role", "member server", "The domain decides who somebody is."},
		{"security", "ads", ""},
		{"realm", s.Realm, ""},
		{"workgroup", s.Workgroup, ""},
		{"netbios name", s.Netbios, ""},
		{"kerberos method", "dedicated keytab", "Tickets are opened with root's copy of the host keys; latchkey changes the\n# machine's password, and nobody else does."},
		{"dedicated keytab file", Keytab, ""},
		{"machine password timeout", "0", ""},
		{"tdbsam:map builtin", "no", "latchkey knows the gids of BUILTIN; smbd makes none of its own."},
		{"winbind use default domain", "yes", "Names are bare, as in ls -l."},
		{"idmap config * : backend", "tdb", "No winbindd runs; smbd wants a range to be named."},
		{"idmap config * : range", fmt.Sprintf("%d-%d", s.Low, s.High), ""},
	}
	for i, domain := range s.Aside {
		all = append(all, Parameter{"idmap config " + domain + " : range", fmt.Sprintf("%d-%d", i+1, i+1), "A range of a winbindd of before, put aside: testparm wants none to overlap."})
	}
	return all
}

func (s Settings) check() error {
	for _, word := range append([]string{s.Realm, s.Workgroup, s.Netbios}, s.Aside...) {
		if word == "" || len(word) > 255 || strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			return fault.Errorf(fault.Malformed, "not a name that smb.conf can carry: %.200q", word)
		}
	}
	if s.Low == 0 || s.High <= s.Low {
		return fault.Errorf(fault.Malformed, "not a range of ids: %d-%d", s.Low, s.High)
	}
	return nil
}

// Record is what Remove has to know.
type Record struct {
	SMBConf   string // the file that includes the fragment
	DomainSID string // Samba's SID of the domain before; empty: it had none
	LocalSID  string // Samba's SID of this machine before; empty: it had none
}

const (
	headLine = "# Made by latchkey. `latchkey samba enable` writes this file anew, and\n# `latchkey samba disable` takes it away. What you add belongs in smb.conf.\n"
	record   = "# latchkey: "
	marker   = "# The next line was added by latchkey; \"latchkey samba disable\" takes it away again.\n"
	include  = "include = " + Fragment
)

// Render returns the fragment.
func Render(s Settings, r Record) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var body strings.Builder
	body.WriteString("[global]\n")
	for _, p := range s.Parameters() {
		if p.why != "" {
			fmt.Fprintf(&body, "\n# %s\n", p.why)
		}
		fmt.Fprintf(&body, "%s = %s\n", p.Name, p.Value)
	}
	var b bytes.Buffer
	b.WriteString(headLine)
	for _, line := range []struct{ name, value string }{
		{"smb.conf", r.SMBConf}, {"domain-sid-before", r.DomainSID}, {"local-sid-before", r.LocalSID}, {"sum", sum(body.String())},
	} {
		fmt.Fprintf(&b, "%s%s=%s\n", record, line.name, line.value)
	}
	b.WriteString("\n" + body.String())
	return b.Bytes(), nil
}

func sum(body string) string {
	h := sha256.Sum256([]byte(body))
	return hex.EncodeToString(h[:8])
}

// read takes a fragment apart: whether it is ours, whether somebody changed it
// since, and its record.
func read(text []byte) (r Record, made, changed bool) {
	rest, ok := strings.CutPrefix(string(text), headLine)
	if !ok {
		return r, false, false
	}
	was := ""
	for {
		line, after, _ := strings.Cut(rest, "\n")
		entry, ok := strings.CutPrefix(line, record)
		if !ok {
			break
		}
		rest = after
		switch name, value, _ := strings.Cut(entry, "="); name {
		case "smb.conf":
			r.SMBConf = value
		case "domain-sid-before":
			r.DomainSID = value
		case "local-sid-before":
			r.LocalSID = value
		case "sum":
			was = value
		}
	}
	return r, true, sum(strings.TrimPrefix(rest, "\n")) != was
}

// Files are the files under one root; "" or "/" is the machine's own.
type Files struct{ Root string }

// State is how things are.
type State struct {
	Made     bool // the fragment is there and ours
	Changed  bool // somebody changed it since
	Included bool // smb.conf reads it
	Record   Record
	Text     []byte // of the fragment, nil where there is none
}

// State reads the fragment and smbConf. A missing file is no error.
func (f Files) State(smbConf string) (*State, error) {
	root, err := etcfile.Files(f).Open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	s := &State{}
	if s.Text, err = readIfThere(root, Fragment); err != nil {
		return nil, err
	}
	s.Record, s.Made, s.Changed = read(s.Text)
	main, err := readIfThere(root, smbConf)
	if err != nil {
		return nil, err
	}
	s.Included = includes(main)
	return s, nil
}

func readIfThere(root *os.Root, name string) ([]byte, error) {
	text, err := etcfile.Read(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, fault.Wrap(fault.Conflict, "read "+name, err)
}

// A Plan is what would change.
type Plan struct {
	Fragment etcfile.Change
	Main     etcfile.Change
	Notes    []string
}

// Changes returns those of the two that change something.
func (p *Plan) Changes() []etcfile.Change {
	var all []etcfile.Change
	for _, c := range []etcfile.Change{p.Fragment, p.Main} {
		if c.Diff() != "" {
			all = append(all, c)
		}
	}
	return all
}

// Diff returns both as one patch.
func (p *Plan) Diff() string { return p.Fragment.Diff() + p.Main.Diff() }

// Plan says what has to change so that smbd reads r.SMBConf and with it the
// settings. fault.NotFound: there is no such file. fault.Conflict: something
// else manages a file, or the fragment was not made by latchkey; the text of
// the error has the diff that would have been right.
func (f Files) Plan(s Settings, r Record) (*Plan, error) {
	if !path.IsAbs(r.SMBConf) || strings.ContainsAny(r.SMBConf, "\n=") {
		return nil, fault.Errorf(fault.Malformed, "not the path of a configuration file: %.200q", r.SMBConf)
	}
	root, err := etcfile.Files(f).Open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	after, err := Render(s, r)
	if err != nil {
		return nil, err
	}
	p := &Plan{Fragment: etcfile.Change{Path: Fragment, After: after}, Main: etcfile.Change{Path: r.SMBConf}}
	have, err := etcfile.Plain(root, r.SMBConf)
	if err == nil && !have {
		return nil, fault.WithRemedy(fault.Errorf(fault.NotFound, "there is no %s", r.SMBConf), "install samba, or name the file with --smb-conf")
	}
	if err != nil {
		main, _ := etcfile.Read(root, r.SMBConf)
		p.Main.Before, p.Main.After = main, Insert(main)
		return nil, refuse(err, p)
	}
	if p.Main.Before, err = etcfile.Read(root, r.SMBConf); err != nil {
		return nil, fault.Wrap(fault.Conflict, "read "+r.SMBConf, err)
	}
	p.Main.After = Insert(p.Main.Before)
	if _, err := etcfile.Plain(root, Fragment); err != nil {
		return nil, refuse(err, p)
	}
	if p.Fragment.Before, err = readIfThere(root, Fragment); err != nil {
		return nil, err
	}
	if p.Fragment.Before != nil {
		_, made, changed := read(p.Fragment.Before)
		if !made {
			return nil, refuse(fault.WithRemedy(fault.Errorf(fault.Conflict, "%s was not made by latchkey", Fragment), "move it to another name, then try again"), p)
		}
		if changed {
			p.Notes = append(p.Notes, Fragment+" was changed by hand; the changed file is kept beside it")
		}
	}
	return p, nil
}

// refuse adds what would have been written to a refusal.
func refuse(err error, p *Plan) error {
	return fault.WithRemedy(fault.Errorf(fault.KindOf(err), "%w; nothing was changed. What would be needed:\n%s", err, p.Diff()), fault.Remedy(err))
}

// WriteFragment puts the plan's fragment into place. Nothing reads it yet where
// smb.conf does not include it.
func (f Files) WriteFragment(p *Plan) error { return f.put(p.Fragment) }

// WriteMain puts the plan's smb.conf into place; what was there is kept beside
// it as *.before-latchkey.
func (f Files) WriteMain(p *Plan) error { return f.put(p.Main) }

// Candidate writes the smb.conf of the plan beside the real one, for testparm,
// and returns its path and how to take it away again.
func (f Files) Candidate(p *Plan) (name string, drop func(), err error) {
	root, err := etcfile.Files(f).Open()
	if err != nil {
		return "", nil, err
	}
	name = path.Join(path.Dir(p.Main.Path), "."+path.Base(p.Main.Path)+".latchkey")
	if err := etcfile.Write(root, name, p.Main.After, 0o600); err != nil {
		_ = root.Close()
		return "", nil, err
	}
	return name, func() {
		_ = etcfile.Remove(root, name)
		_ = root.Close()
	}, nil
}

// put carries out one change and keeps what is not ours.
func (f Files) put(c etcfile.Change) error {
	if c.Diff() == "" {
		return nil
	}
	root, err := etcfile.Files(f).Open()
	if err != nil {
		return err
	}
	defer root.Close()
	now, err := readIfThere(root, c.Path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, c.Before) || (now == nil) != (c.Before == nil) {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s was changed by somebody else just now", c.Path), "try again")
	}
	if c.Before != nil && foreign(c) {
		if _, err := etcfile.Keep(root, c.Path, c.Before); err != nil {
			return err
		}
	}
	if c.After == nil {
		return etcfile.Remove(root, c.Path)
	}
	return etcfile.Write(root, c.Path, c.After, 0o644)
}

// foreign reports whether the content that goes is anybody's but ours.
func foreign(c etcfile.Change) bool {
	if c.Path == Fragment {
		_, made, changed := read(c.Before)
		return !made || changed
	}
	return !bytes.Contains(c.Before, []byte(marker))
}

// Undo puts back what the plan changed, whichever part of it was carried out.
func (f Files) Undo(p *Plan) error {
	root, err := etcfile.Files(f).Open()
	if err != nil {
		return err
	}
	defer root.Close()
	var trouble []error
	for _, c := range []etcfile.Change{p.Main, p.Fragment} {
		now, err := readIfThere(root, c.Path)
		if err != nil || !bytes.Equal(now, c.After) || c.Diff() == "" {
			trouble = append(trouble, err)
			continue
		}
		trouble = append(trouble, f.put(etcfile.Change{Path: c.Path, Before: c.After, After: c.Before}))
		if c.Path != Fragment {
			etcfile.DropKept(root, c.Path, c.Before)
		}
	}
	return errors.Join(trouble...)
}

// PlanRemove says what Remove would do: the include line and the fragment go,
// the rest of smb.conf stays as the administrator has it by now.
func (f Files) PlanRemove(smbConf string) (*Plan, error) {
	root, err := etcfile.Files(f).Open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	p := &Plan{Fragment: etcfile.Change{Path: Fragment}, Main: etcfile.Change{Path: smbConf}}
	if p.Main.Before, err = readIfThere(root, smbConf); err != nil {
		return nil, err
	}
	p.Main.After = p.Main.Before
	if p.Main.Before != nil {
		if _, err := etcfile.Plain(root, smbConf); err != nil {
			return nil, err
		}
		p.Main.After = Cut(p.Main.Before)
		if includes(p.Main.After) {
			p.Notes = append(p.Notes, smbConf+" has an include line that latchkey did not write; take it away by hand")
		}
	}
	own, err := readIfThere(root, Fragment)
	if err != nil {
		return nil, err
	}
	_, made, changed := read(own)
	p.Fragment.Before = own
	switch {
	case own != nil && !made:
		p.Fragment.After = own
		p.Notes = append(p.Notes, Fragment+" was not made by latchkey; it is left as it is")
	case changed:
		p.Notes = append(p.Notes, Fragment+" was changed by hand; a copy is kept beside it")
	}
	return p, nil
}

// Remove carries out the plan of PlanRemove.
func (f Files) Remove(p *Plan) error {
	if err := f.put(p.Main); err != nil {
		return err
	}
	if err := f.put(p.Fragment); err != nil {
		return err
	}
	if p.Main.Diff() == "" {
		return nil
	}
	root, err := etcfile.Files(f).Open()
	if err != nil {
		return err
	}
	defer root.Close()
	// The file is again what it was: its copy has done its work.
	if left := etcfile.DropKept(root, p.Main.Path, p.Main.After); left != "" {
		p.Notes = append(p.Notes, p.Main.Path+" changed since then; what it was before is kept in "+left)
	}
	return nil
}
