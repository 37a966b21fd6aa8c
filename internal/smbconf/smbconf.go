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
	"errors"
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

// State reads the fragment and smbConf. A missing file is no error, nor is a
// smbConf that is no plain file, which includes nothing: Plan says what to do.
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
		if _, odd := etcfile.Plain(root, smbConf); odd != nil {
			return s, nil
		}
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
		return nil, refuse(fault.WithRemedy(err, "name the file itself with --smb-conf, or make "+r.SMBConf+" a plain file"), p)
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
