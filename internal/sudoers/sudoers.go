// SPDX-License-Identifier: Apache-2.0

// Package sudoers keeps the files by which groups of the domain may use sudo:
// one file in /etc/sudoers.d for each, with one line in it.
//
// A group is named by its number, never by its name: a name has blanks and
// characters that sudoers(5) gives a meaning to, may change, and may come to
// somebody else. Nothing takes effect that visudo does not accept, alone and
// together with everything else; what was there before comes back then. The
// package touches no file but its own, and asks no directory.
package sudoers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Dir is where the files are. sudo reads no name there that has a dot.
const Dir = "/etc/sudoers.d"

const (
	prefix = "latchkey-"
	mark   = "# latchkey group "
	mode   = 0o440 // sudo refuses to read what others may write
)

// Grant is one group that may use sudo.
type Grant struct {
	GID  uint32
	SID  string
	Name string // when the grant was made; for people
}

// File returns where the grant is kept.
func (g Grant) File() string { return fmt.Sprintf("%s/%s%d", Dir, prefix, g.GID) }

// text is the whole file.
func (g Grant) text() []byte {
	return fmt.Appendf(nil, "# Made by \"latchkey access sudo\"; \"latchkey access sudo --remove %d\" takes it away.\n%s%d %s %q\n%%#%d ALL=(ALL:ALL) ALL\n",
		g.GID, mark, g.GID, g.SID, g.Name, g.GID)
}

// parse reads a file of ours; false when it is none.
func parse(text []byte) (g Grant, ok bool) {
	for line := range strings.Lines(string(text)) {
		rest, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), mark)
		if !found {
			continue
		}
		gid, rest, _ := strings.Cut(rest, " ")
		sid, name, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseUint(gid, 10, 32)
		name, err2 := strconv.Unquote(name)
		if err != nil || err2 != nil {
			return Grant{}, false
		}
		return Grant{GID: uint32(n), SID: sid, Name: name}, true
	}
	return Grant{}, false
}

// Files are the files under one root. Check runs visudo over one file, or over
// everything when path is empty, and returns its words as an error.
type Files struct {
	etcfile.Files
	Check func(ctx context.Context, path string) error
}

// List returns the grants in the order of their files.
func (f Files) List() ([]Grant, error) {
	root, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	names, err := etcfile.ReadDir(root, Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "read "+Dir, err)
	}
	var all []Grant
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) || strings.Contains(name, ".") {
			continue
		}
		text, err := etcfile.Read(root, Dir+"/"+name)
		if err != nil {
			return nil, fault.Wrap(fault.Denied, "read "+Dir+"/"+name, err)
		}
		if g, ok := parse(text); ok {
			all = append(all, g)
		}
	}
	return all, nil
}

// Add lets a group use sudo. fault.Conflict, with visudo's words: it refuses the
// line, or refused what was there before already; nothing has changed then.
func (f Files) Add(ctx context.Context, g Grant) error {
	if g.GID < 1000 || g.SID == "" {
		return fault.Errorf(fault.Malformed, "no group to let use sudo: %d %q", g.GID, g.SID)
	}
	root, err := f.Open()
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := root.Stat(etcfile.Rel(Dir)); err != nil {
		return fault.WithRemedy(fault.Wrap(fault.NotFound, "look for "+Dir, err), "install sudo")
	}
	if err := f.Check(ctx, ""); err != nil {
		return fault.WithRemedy(fault.Wrap(fault.Conflict, "visudo refuses the present configuration of sudo", err), "mend it with visudo first")
	}
	if err := f.covered(root); err != nil {
		return err
	}
	rehearsal := fmt.Sprintf("%s/.%s%d.new", Dir, prefix, g.GID)
	defer func() { _ = root.Remove(etcfile.Rel(rehearsal)) }()
	if err := etcfile.Write(root, rehearsal, g.text(), mode); err != nil {
		return err
	}
	if err := f.Check(ctx, rehearsal); err != nil {
		return fault.WithRemedy(fault.Wrap(fault.Conflict, "visudo refuses the line", err), "report it: the line is "+string(g.text()))
	}
	before, err := etcfile.Read(root, g.File())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Conflict, "read "+g.File(), err)
	}
	if err := etcfile.Write(root, g.File(), g.text(), mode); err != nil {
		return err
	}
	if err := f.Check(ctx, ""); err != nil {
		back := error(nil)
		if before == nil {
			back = root.Remove(etcfile.Rel(g.File()))
		} else {
			back = etcfile.Write(root, g.File(), before, mode)
		}
		return errors.Join(fault.Wrap(fault.Conflict, "visudo refuses the configuration with the line in it", err), back)
	}
	return nil
}

// covered makes sure that sudo reads the directory at all.
func (f Files) covered(root *os.Root) error {
	text, err := etcfile.Read(root, "/etc/sudoers")
	if err != nil {
		return fault.WithRemedy(fault.Wrap(fault.NotFound, "read /etc/sudoers", err), "install sudo")
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) >= 2 && (words[0] == "@includedir" || words[0] == "#includedir") && strings.TrimSuffix(words[1], "/") == Dir {
			return nil
		}
	}
	return fault.WithRemedy(fault.Errorf(fault.Conflict, "/etc/sudoers does not read %s", Dir), "add the line \"@includedir "+Dir+"\" with visudo")
}

// Remove takes a grant away. fault.NotFound: there is none.
func (f Files) Remove(g Grant) error {
	root, err := f.Open()
	if err != nil {
		return err
	}
	defer root.Close()
	text, err := etcfile.Read(root, g.File())
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Errorf(fault.NotFound, "there is no %s", g.File())
	}
	if err != nil {
		return fault.Wrap(fault.Conflict, "read "+g.File(), err)
	}
	if _, ok := parse(text); !ok {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s is not what latchkey wrote", g.File()), "look at it, and remove it by hand")
	}
	return fault.Wrap(fault.Internal, "remove "+g.File(), root.Remove(etcfile.Rel(g.File())))
}
