// SPDX-License-Identifier: Apache-2.0

package krb5conf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Limits of what is read of files that the administrator wrote: far above
// anything real, and small enough to be read at once.
const (
	maxInclude = 8   // depth of includes
	maxFiles   = 256 // files in all
)

// relation is one "key = value" of a profile (krb5.conf(5)), in the order in
// which the library reads them: the first value of a key is the one that holds.
type relation struct {
	section string // "libdefaults"; "realms/EXAMPLE.COM" inside braces
	key     string
	value   string
	file    string
	line    int
}

// profile is a krb5.conf with everything that it includes, read in order.
type profile struct {
	relations []relation
	// ours is the index in relations at which our own file is read; -1 when no
	// line includes it. Our file itself is not read.
	ours  int
	notes []string // includes that could not be followed
	files int
}

// readProfile reads file and what it includes. Text that is no profile is
// fault.Conflict; a missing file is fs.ErrNotExist.
func readProfile(root *os.Root, file string) (*profile, error) {
	text, err := etcfile.Read(root, file)
	if err != nil {
		return nil, err
	}
	p := &profile{ours: -1}
	return p, p.parse(root, file, text, 0)
}

// parse reads one file's text. The grammar is that of MIT's prof_parse.c as its
// manual page describes it, Heimdal's is the same in all that matters here.
func (p *profile) parse(root *os.Root, file string, text []byte, depth int) error {
	bad := func(line int, what string) error {
		return fault.Errorf(fault.Conflict, "%s, line %d: %s", file, line, what)
	}
	if p.files++; p.files > maxFiles || depth > maxInclude {
		return fault.Errorf(fault.Conflict, "%s: too many files are included", file)
	}
	var section string
	var inside []string // names of the open braces
	for i, line := range strings.Split(string(text), "\n") {
		n := i + 1
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case strings.ContainsRune(line, 0):
			return bad(n, "a zero byte: this is no text file")
		case len(inside) == 0 && directive(line, "includedir") != "":
			if err := p.includeDir(root, directive(line, "includedir"), depth); err != nil {
				return err
			}
		case len(inside) == 0 && directive(line, "include") != "":
			if err := p.include(root, directive(line, "include"), depth); err != nil {
				return err
			}
		case section == "" && directive(line, "module") != "":
		case line[0] == '[':
			name, rest, ok := strings.Cut(line[1:], "]")
			if !ok || len(inside) > 0 || (rest != "" && rest != "*") {
				return bad(n, "a section header that is none")
			}
			section = name
		case line[0] == '}':
			if len(inside) == 0 {
				return bad(n, "a closing brace without an opening one")
			}
			inside = inside[:len(inside)-1]
		default:
			key, value, ok := strings.Cut(line, "=")
			key = strings.TrimSuffix(strings.TrimSpace(key), "*")
			if value = strings.TrimSpace(value); !ok || key == "" || section == "" {
				return bad(n, "neither a section, a relation nor a comment")
			}
			if value == "{" {
				inside = append(inside, key)
				continue
			}
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			p.relations = append(p.relations, relation{
				strings.Join(append([]string{section}, inside...), "/"), key, value, file, n})
		}
	}
	if len(inside) > 0 {
		return fault.Errorf(fault.Conflict, "%s: a brace is never closed", file)
	}
	return nil
}

// directive returns the argument of "word argument", "" when line is none.
func directive(line, word string) string {
	rest, ok := strings.CutPrefix(line, word)
	if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '\t') {
		return ""
	}
	return strings.TrimSpace(rest)
}

func (p *profile) include(root *os.Root, file string, depth int) error {
	if path.Clean(file) == ownFile {
		p.meet()
		return nil
	}
	text, err := etcfile.Read(root, file)
	if err != nil {
		p.notes = append(p.notes, fmt.Sprintf("%s is included and could not be read: %v", file, err))
		return nil
	}
	return p.parse(root, file, text, depth+1)
}

// includeDir follows the rule of krb5.conf(5) for names: letters, digits,
// dashes and underscores, or anything that ends in ".conf" and does not begin
// with a dot; in alphabetical order.
func (p *profile) includeDir(root *os.Root, dir string, depth int) error {
	own := path.Clean(dir) == ownDir
	names, err := etcfile.ReadDir(root, dir)
	if err != nil && (!own || !errors.Is(err, fs.ErrNotExist)) {
		p.notes = append(p.notes, fmt.Sprintf("%s is included and could not be read: %v", dir, err))
	}
	if own && !slices.Contains(names, path.Base(ownFile)) {
		names = append(names, path.Base(ownFile))
		slices.Sort(names)
	}
	for _, name := range names {
		if !includable(name) {
			continue
		}
		if err := p.include(root, path.Join(dir, name), depth); err != nil {
			return err
		}
	}
	return nil
}

// meet marks the place where our own file is read.
func (p *profile) meet() {
	if p.ours < 0 {
		p.ours = len(p.relations)
	}
}

func includable(name string) bool {
	if strings.HasSuffix(name, ".conf") {
		return name[0] != '.'
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// first returns the first value of a key.
func (p *profile) first(section, key string) (relation, bool) {
	for _, r := range p.relations {
		if r.section == section && r.key == key {
			return r, true
		}
	}
	return relation{}, false
}
