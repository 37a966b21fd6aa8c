// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Loaded is a configuration and where each value came from.
type Loaded struct {
	Config
	// Origin of each key that a file sets, as "/etc/latchkey/latchkey.toml:12".
	Origin map[string]string
	// Warnings are things that are not obeyed and do not stop the daemon:
	// locked keys in conf.d.
	Warnings Mistakes
}

// Load reads file and then, in the order of their names, folder/*.toml, and
// merges them over the defaults: a key of a later file replaces the value as a
// whole. Neither needs to exist, except that a file other than File must: who
// names a file wants that one. Every mistake in every file is found; with any
// the error is fault.Malformed and wraps Mistakes.
//
// Keys of folder that latchkey.toml locks are left out and reported in
// Warnings: locking a key must not keep the daemon from starting.
func Load(file, folder string) (*Loaded, error) { return load(file, folder, "") }

// load is Load; where trial is named, it is read in the place of SetFile.
func load(file, folder, trial string) (*Loaded, error) {
	l := &Loaded{Config: Default(), Origin: map[string]string{}}
	main, mistakes := readSource(file, true)
	if main == nil && len(mistakes) == 0 && file != File && file != "" {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "read the configuration",
			Err: Mistakes{{File: file, Text: "does not exist"}}, Remedy: "name a file that exists, or leave it out: the defaults are safe"}
	}
	if main != nil {
		mistakes = append(mistakes, l.checkVersion(main)...)
		mistakes = append(mistakes, l.merge(main, true)...)
	}
	names, err := fragments(folder)
	if err != nil {
		mistakes = append(mistakes, Mistake{File: folder, Text: "cannot be read: " + cause(err)})
	}
	set := filepath.Join(folder, SetFile)
	if at, found := slices.BinarySearch(names, set); trial != "" && !found {
		names = slices.Insert(names, at, set)
	}
	for _, name := range names {
		from := name
		if trial != "" && name == set {
			from = trial
		}
		s, ms := readSource(from, false)
		mistakes = append(mistakes, ms...)
		if s != nil {
			s.file = name
			mistakes = append(mistakes, l.merge(s, false)...)
		}
	}
	mistakes = append(mistakes, l.together()...)
	if err := mistakes.fault(); err != nil {
		return nil, err
	}
	return l, nil
}

// Parse checks the text of one latchkey.toml over the defaults. name is for
// the messages.
func Parse(name string, data []byte) (*Loaded, error) {
	l := &Loaded{Config: Default(), Origin: map[string]string{}}
	s, mistakes := parseSource(name, data)
	if s != nil {
		mistakes = append(mistakes, l.checkVersion(s)...)
		mistakes = append(mistakes, l.merge(s, true)...)
		mistakes = append(mistakes, l.together()...)
	}
	if err := mistakes.fault(); err != nil {
		return nil, err
	}
	return l, nil
}

// fragments lists the files of conf.d in their order.
func fragments(folder string) ([]string, error) {
	if folder == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(folder) // sorted by name
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(folder, e.Name()))
		}
	}
	return names, err
}

// checkVersion wants the version in a file that says anything at all.
func (l *Loaded) checkVersion(s *source) Mistakes {
	v, given := s.tree["version"]
	if !given && len(s.tree) > 0 {
		return Mistakes{{File: s.file, Key: "version", Text: fmt.Sprintf("the version is missing; write version = %d above the first section", Version)}}
	}
	if n, ok := v.(int64); ok && n > Version {
		delete(s.tree, "version")
		return Mistakes{s.mistake("version", "version %d is for a newer latchkey; this one reads version %d", n, Version)}
	}
	return nil
}

// merge puts the values of one file over those of the files before.
func (l *Loaded) merge(s *source, main bool) Mistakes {
	mistakes := unknown(s, s.tree, "")
	var warnings Mistakes
	for _, k := range Keys() {
		value, given := lookup(s.tree, k.Name)
		if !given {
			continue
		}
		if !main {
			if k.Name == "locked.keys" {
				mistakes = append(mistakes, s.mistake(k.Name, "only latchkey.toml locks keys"))
				continue
			}
			if l.IsLocked(k.Name) {
				warnings = append(warnings, s.mistake(k.Name, "%s is locked by latchkey.toml; this value is not used", k.Name))
				continue
			}
		}
		if err := k.assign(&l.Config, value); err != nil {
			mistakes = append(mistakes, s.mistake(k.Name, "%s %s", k.Name, err))
			continue
		}
		l.Origin[k.Name] = fmt.Sprintf("%s:%d", s.file, s.lines[k.Name])
	}
	byLine := func(a, b Mistake) int { return a.Line - b.Line }
	slices.SortStableFunc(mistakes, byLine)
	slices.SortStableFunc(warnings, byLine)
	l.Warnings = append(l.Warnings, warnings...)
	return mistakes
}

// together checks what one key alone cannot tell.
func (l *Loaded) together() Mistakes {
	known := map[string]string{}
	for _, a := range l.SSO.Apps {
		for _, s := range append([]string{a.Name}, a.Redirects...) {
			if other, had := known[s]; had {
				return Mistakes{{Key: "sso.app", Text: fmt.Sprintf("sso.app: %s is in it twice (%s and %s)", s, other, a.Name)}}
			}
			known[s] = a.Name
		}
	}
	if _, err := l.IDMap.Map(anyDomain); err != nil {
		return Mistakes{{Key: "idmap", Text: "[idmap] " + err.Error()}}
	}
	return nil
}

// IsLocked says whether only latchkey.toml may set the key.
func (l *Loaded) IsLocked(key string) bool {
	for _, lock := range l.Locked {
		if key == lock || strings.HasPrefix(key, lock+".") {
			return true
		}
	}
	return false
}

// unknown finds the keys of a table that are not in the table of keys.
func unknown(s *source, table map[string]any, prefix string) Mistakes {
	var mistakes Mistakes
	for name, value := range table {
		full := prefix + name
		if k, ok := Lookup(full); ok {
			mistakes = append(mistakes, unknownItems(s, k, value)...)
			continue
		}
		if isSection(full) {
			inner, ok := value.(map[string]any)
			if !ok {
				mistakes = append(mistakes, s.mistake(full, "%s is a section; write [%s] and its keys below", full, full))
				continue
			}
			mistakes = append(mistakes, unknown(s, inner, full+".")...)
			continue
		}
		mistakes = append(mistakes, s.mistake(full, "%s", unknownText(full, prefix, name, value)))
	}
	return mistakes
}

// unknownItems finds the unknown keys in a list of tables.
func unknownItems(s *source, k Key, value any) Mistakes {
	if k.items == nil {
		return nil
	}
	var known []string
	for _, item := range k.items {
		known = append(known, item.Name)
	}
	var mistakes Mistakes
	list, _ := tables(value)
	for i, table := range list {
		for name := range table {
			if slices.Contains(known, name) {
				continue
			}
			text := didYouMean(fmt.Sprintf("unknown key %q in %s", name, k.Name), nearest(name, known))
			mistakes = append(mistakes, s.mistake(fmt.Sprintf("%s[%d].%s", k.Name, i, name), "%s", text))
		}
	}
	return mistakes
}

// unknownText names what an unknown key was most likely meant to be: a like
// word in its section, the same word elsewhere, or anything like it.
func unknownText(full, prefix, name string, value any) string {
	if _, table := value.(map[string]any); table {
		var sections []string
		for _, s := range Sections() {
			sections = append(sections, s.Name)
		}
		return didYouMean(fmt.Sprintf("unknown section %q", full), nearest(full, sections))
	}
	var inside []string
	elsewhere := ""
	for _, k := range keyNames() {
		last := k[strings.LastIndexByte(k, '.')+1:]
		if k == prefix+last {
			inside = append(inside, last)
		}
		if last == name && elsewhere == "" {
			elsewhere = k
		}
	}
	near := elsewhere
	if n := nearest(name, inside); n != "" {
		near = prefix + n
	}
	if near == "" {
		near = nearest(full, keyNames())
	}
	return didYouMean(fmt.Sprintf("unknown key %q", full), near)
}

// didYouMean adds the nearest name to a text, where there is one.
func didYouMean(text, near string) string {
	if near == "" {
		return text
	}
	return fmt.Sprintf("%s; did you mean %q?", text, near)
}

// lookup finds a dotted key in nested tables.
func lookup(tree map[string]any, name string) (any, bool) {
	head, rest, nested := strings.Cut(name, ".")
	value, ok := tree[head]
	if !ok || !nested {
		return value, ok
	}
	inner, ok := value.(map[string]any)
	if !ok {
		return nil, false
	}
	return lookup(inner, rest)
}

// isSection says whether name is a table of the file.
func isSection(name string) bool {
	for _, s := range Sections() {
		if s.Name == name {
			return true
		}
	}
	return false
}

// keyNames returns the names of all keys.
func keyNames() []string {
	keys := Keys()
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	return names
}
