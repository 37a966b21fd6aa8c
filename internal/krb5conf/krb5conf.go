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
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
	"github.com/latchkey-nas/latchkey/internal/fault"
)

const (
	mainFile = "/etc/krb5.conf"
	ownDir   = "/etc/krb5.conf.d"
	ownFile  = "/etc/krb5.conf.d/latchkey.conf"

	marker      = "# The next line was added by latchkey; \"latchkey leave\" takes it away again.\n"
	dirLine     = "includedir " + ownDir + "\n"
	fileLine    = "include " + ownFile + "\n"
	createdHead = "# Made by latchkey, because there was none. \"latchkey leave\" takes it away again\n# while it is unchanged.\n"
)

// Plan is what Apply or Remove would do.
type Plan struct {
	// Changes in the order in which they are made; empty when all is as it
	// should be.
	Changes []Change
	// Notes say what of the existing files stays or is overruled, one each.
	Notes []string

	mkdir, rmdir bool
}

// Plan reads the files and says what has to change; nothing is written.
//
// A file that cannot be merged is fault.Conflict, with the diff that would
// have been right in the error's text: a krb5.conf that is no profile or no
// plain file, or a latchkey.conf that somebody else made. Settings that are
// not words are fault.Malformed.
func (f Files) Plan(s Settings) (*Plan, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	root, err := f.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return plan(root, s)
}

func plan(root *os.Root, s Settings) (*Plan, error) {
	p := &Plan{}
	haveMain, err := etcfile.Plain(root, mainFile)
	if err != nil {
		return nil, withDiff(err, Change{Path: mainFile, After: []byte(dirLine)})
	}
	var theirs *profile
	var main []byte
	if haveMain {
		if main, err = etcfile.Read(root, mainFile); err != nil {
			return nil, fault.Wrap(fault.Conflict, "read "+mainFile, err)
		}
		if theirs, err = readProfile(root, mainFile); err != nil {
			return nil, withDiff(fault.WithRemedy(err, "mend the file, then join again"),
				Change{Path: mainFile, Before: main, After: append([]byte(marker+dirLine), main...)})
		}
		p.Notes = append(p.Notes, theirs.notes...)
	}
	ours, notes := s.relations(theirs)
	p.Notes = append(p.Notes, notes...)

	// Our own file.
	dirMade := false
	if _, err := root.Stat(etcfile.Rel(ownDir)); errors.Is(err, fs.ErrNotExist) {
		p.mkdir, dirMade = true, true
	} else if err != nil {
		return nil, fault.Wrap(fault.Conflict, "look at "+ownDir, err)
	}
	haveOwn, err := etcfile.Plain(root, ownFile)
	if err != nil {
		return nil, err
	}
	var own []byte
	if haveOwn {
		if own, err = etcfile.Read(root, ownFile); err != nil {
			return nil, fault.Wrap(fault.Conflict, "read "+ownFile, err)
		}
		made, changed, hadDir := readOwn(own)
		dirMade = hadDir
		change := Change{Path: ownFile, Before: own, After: render(ours, dirMade)}
		if !made {
			return nil, withDiff(fault.WithRemedy(fault.Errorf(fault.Conflict, "%s was not made by latchkey", ownFile),
				"move it to another name in "+ownDir+", then join again"), change)
		}
		if changed {
			p.Notes = append(p.Notes, ownFile+" was changed by hand; the changed file is kept beside it")
		}
	}
	if after := render(ours, dirMade); !bytes.Equal(own, after) {
		p.Changes = append(p.Changes, Change{Path: ownFile, Before: own, After: after})
	}

	// The line that reads it. The whole directory, as every distribution does,
	// but where it holds files that nothing reads today: it is not ours to bring
	// those to life, and one with an include of its own that leads nowhere would
	// break every Kerberos program.
	line := dirLine
	if others := otherFiles(root); len(others) > 0 {
		line = fileLine
	}
	switch {
	case !haveMain:
		p.Changes = append(p.Changes, Change{Path: mainFile, Before: nil, After: []byte(createdHead + line)})
	case theirs.ours < 0:
		p.Changes = append(p.Changes, Change{Path: mainFile, Before: main, After: append([]byte(marker+line), main...)})
	case overruledBefore(theirs, ours):
		p.Changes = append(p.Changes, Change{Path: mainFile, Before: main, After: append([]byte(marker+fileLine), main...)})
	}
	return p, nil
}

// overruledBefore reports whether a line that stands before the place where
// our file is read says otherwise: the first value holds.
func overruledBefore(theirs *profile, ours []relation) bool {
	for _, o := range ours {
		if strings.HasPrefix(o.section, "realms/") {
			continue
		}
		for _, t := range theirs.relations[:theirs.ours] {
			if t.section == o.section && t.key == o.key && t.value != o.value {
				return true
			}
		}
	}
	return false
}

// withDiff adds what would have been written to a refusal.
func withDiff(err error, c Change) error {
	return fault.WithRemedy(fault.Errorf(fault.KindOf(err), "%w; nothing was changed. What would be needed:\n%s", err, c.Diff()), fault.Remedy(err))
}

// Apply carries the plan out; doing it twice changes nothing more. What
// changes in a file of somebody else, or in ours after somebody edited it, is
// kept beside it as *.before-latchkey.
func (f Files) Apply(s Settings) (*Plan, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	root, err := f.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	p, err := plan(root, s)
	if err != nil {
		return nil, err
	}
	return p, p.carryOut(root)
}

// carryOut makes the changes. Our file comes first: an includedir of a
// directory that is not there breaks every Kerberos program.
func (p *Plan) carryOut(root *os.Root) error {
	if p.mkdir {
		if err := root.Mkdir(etcfile.Rel(ownDir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fault.Wrap(fault.Internal, "make "+ownDir, err)
		}
		if err := root.Chmod(etcfile.Rel(ownDir), 0o755); err != nil {
			return fault.Wrap(fault.Internal, "make "+ownDir, err)
		}
	}
	for _, c := range p.Changes {
		if c.Before != nil && needsKeeping(c) {
			if _, err := etcfile.Keep(root, c.Path, c.Before); err != nil {
				return err
			}
		}
		var err error
		if c.After == nil {
			err = etcfile.Remove(root, c.Path)
		} else {
			err = etcfile.Write(root, c.Path, c.After, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if p.rmdir {
		// Not empty, or in use: it stays.
		_ = root.Remove(etcfile.Rel(ownDir))
	}
	return nil
}

// needsKeeping reports whether the content that goes is anybody's but ours.
func needsKeeping(c Change) bool {
	switch c.Path {
	case ownFile:
		_, changed, _ := readOwn(c.Before)
		return changed
	default:
		_, cut := cutLine(c.Before)
		return !cut
	}
}

// cutLine takes the line that Apply added out of a krb5.conf, wherever it
// stands by now, and reports whether there was one.
func cutLine(text []byte) ([]byte, bool) {
	for _, line := range []string{marker + dirLine, marker + fileLine, createdHead + dirLine, createdHead + fileLine} {
		if at := bytes.Index(text, []byte(line)); at == 0 || (at > 0 && text[at-1] == '\n') {
			// Not nil: that would mean that the file goes.
			return append(append([]byte{}, text[:at]...), text[at+len(line):]...), true
		}
	}
	return text, false
}

// PlanRemove says what Remove would do.
func (f Files) PlanRemove() (*Plan, error) {
	root, err := f.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return planRemove(root)
}

func planRemove(root *os.Root) (*Plan, error) {
	p := &Plan{}
	var rest []byte
	if have, err := etcfile.Plain(root, mainFile); err != nil {
		p.Notes = append(p.Notes, err.Error()+"; it is left as it is")
		rest, _ = etcfile.Read(root, mainFile)
	} else if have {
		main, err := etcfile.Read(root, mainFile)
		if err != nil {
			return nil, fault.Wrap(fault.Conflict, "read "+mainFile, err)
		}
		rest = main
		for cut := true; cut; {
			rest, cut = cutLine(rest)
		}
		switch {
		case string(main) == createdHead+dirLine, string(main) == createdHead+fileLine:
			p.Changes = append(p.Changes, Change{Path: mainFile, Before: main, After: nil})
		case !bytes.Equal(rest, main):
			p.Changes = append(p.Changes, Change{Path: mainFile, Before: main, After: rest})
		}
	}
	if have, err := etcfile.Plain(root, ownFile); err != nil {
		p.Notes = append(p.Notes, err.Error()+"; it is left as it is")
	} else if have {
		own, err := etcfile.Read(root, ownFile)
		if err != nil {
			return nil, fault.Wrap(fault.Conflict, "read "+ownFile, err)
		}
		made, changed, dirMade := readOwn(own)
		if made {
			p.Changes = append(p.Changes, Change{Path: ownFile, Before: own, After: nil})
			// An includedir of a directory that is gone breaks every Kerberos
			// program: it stays while anything might still read it.
			p.rmdir = dirMade && !bytes.Contains(rest, []byte(ownDir))
		} else {
			p.Notes = append(p.Notes, ownFile+" was not made by latchkey; it is left as it is")
		}
		if changed {
			p.Notes = append(p.Notes, ownFile+" was changed by hand; a copy is kept beside it")
		}
	}
	if others := includedByUs(root, p); len(others) > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%s holds other files (%s), which %s no longer reads: add \"%s\" to it if it should",
			ownDir, strings.Join(others, ", "), mainFile, strings.TrimSpace(dirLine)))
	}
	return p, nil
}

// includedByUs returns the other files of the directory when the plan takes
// away the line that made the library read them.
func includedByUs(root *os.Root, p *Plan) []string {
	ours := slices.ContainsFunc(p.Changes, func(c Change) bool {
		return c.Path == mainFile && bytes.Contains(c.Before, []byte(dirLine)) && !bytes.Contains(c.After, []byte(dirLine))
	})
	if !ours {
		return nil
	}
	return otherFiles(root)
}

// otherFiles returns the files of the directory that an includedir reads, but
// for ours.
func otherFiles(root *os.Root) (others []string) {
	names, _ := etcfile.ReadDir(root, ownDir)
	for _, n := range names {
		if includable(n) && ownDir+"/"+n != ownFile {
			others = append(others, n)
		}
	}
	return others
}

// Remove undoes what Apply did, and leaves what others changed since.
func (f Files) Remove() (*Plan, error) {
	root, err := f.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	p, err := planRemove(root)
	if err != nil {
		return nil, err
	}
	if err := p.carryOut(root); err != nil {
		return nil, err
	}
	for _, c := range p.Changes {
		if c.Path == mainFile && c.After != nil {
			// The file is again what it was: its copy has done its work.
			if left := etcfile.DropKept(root, c.Path, c.After); left != "" {
				p.Notes = append(p.Notes, c.Path+" changed since the join; what it was before is kept in "+left)
			}
		}
	}
	return p, nil
}
