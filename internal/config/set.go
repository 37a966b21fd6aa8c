// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// SetFile is the file of conf.d that SetAll writes. Files with a name after it
// win over it, files before it lose.
const SetFile = "50-set.toml"

// SetAll changes keys for good in folder, all of them or none, and returns what
// the whole configuration is then. A value is TOML, or a bare string where the
// key takes text; the empty value removes the key from SetFile again. Nothing is
// written when the result would not load: fault.Malformed. A key that does not
// exist is fault.Malformed, a locked one fault.Denied, one that a later file of
// folder sets as well fault.Conflict.
//
// The file is replaced at once (a new file, synced, renamed over the old one).
// Calls must not overlap.
func SetAll(file, folder string, values map[string]string) (*Loaded, error) {
	return setAll(file, folder, values, true)
}

// Trial returns what SetAll would, and changes nothing.
func Trial(file, folder string, values map[string]string) (*Loaded, error) {
	return setAll(file, folder, values, false)
}

func setAll(file, folder string, values map[string]string, write bool) (*Loaded, error) {
	keys := slices.Sorted(maps.Keys(values))
	op := "set " + strings.Join(keys, ", ")
	for _, key := range keys {
		if _, ok := Lookup(key); !ok {
			return nil, Unknown(key)
		}
	}
	before, err := Load(file, folder)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, op, err)
	}
	path := filepath.Join(folder, SetFile)
	tree := map[string]any{}
	if s, mistakes := readSource(path, false); s != nil {
		tree = s.tree
	} else if err := mistakes.fault(); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if key == "version" || key == "locked.keys" || before.IsLocked(key) {
			return nil, &fault.Error{Kind: fault.Denied, Op: "set " + key, Err: errors.New("only latchkey.toml may set it"),
				Remedy: "edit " + file + ", then `systemctl reload latchkeyd`"}
		}
		k, _ := Lookup(key)
		if values[key] == "" {
			remove(tree, key)
		} else if err := insert(tree, k, values[key]); err != nil {
			return nil, &fault.Error{Kind: fault.Malformed, Op: "set " + key, Err: err}
		}
	}
	text, err := render(tree)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	return before.replace(file, folder, keys, text, write)
}

// Unknown says that there is no such key, and which was most likely meant:
// fault.Malformed.
func Unknown(key string) error {
	text := didYouMean(fmt.Sprintf("there is no key %q", key), nearest(key, keyNames()))
	return &fault.Error{Kind: fault.Malformed, Err: errors.New(text), Remedy: "`latchkey config show` lists every key"}
}

// replace writes the new SetFile where all files together still load.
func (l *Loaded) replace(file, folder string, keys []string, text []byte, write bool) (*Loaded, error) {
	op := "set " + strings.Join(keys, ", ")
	path := filepath.Join(folder, SetFile)
	trial, err := os.CreateTemp(folder, ".set-*")
	if err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Op: op, Err: err, Remedy: "see that " + folder + " can be written and the disk is not full"}
	}
	defer os.Remove(trial.Name())
	_, err = trial.Write(text)
	err = errors.Join(err, trial.Chmod(0o644), trial.Sync(), trial.Close())
	if err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Op: op, Err: err, Remedy: "see that the disk is not full"}
	}
	after, err := load(file, folder, trial.Name())
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, op, err)
	}
	for _, key := range keys {
		if where := after.Origin[key]; where != "" && !strings.HasPrefix(where, path+":") && strings.HasPrefix(where, folder+"/") {
			return nil, &fault.Error{Kind: fault.Conflict, Op: "set " + key, Err: fmt.Errorf("%s sets it as well, and has the last word", where),
				Remedy: "remove it there"}
		}
	}
	if !write {
		return after, nil
	}
	if err := os.Rename(trial.Name(), path); err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	if d, err := os.Open(folder); err == nil { // the rename is on disk when the folder is
		_ = d.Sync()
		_ = d.Close()
	}
	return after, nil
}

// insert puts a value given as text into nested tables, as TOML where it is
// TOML of the right kind, as a bare string otherwise.
func insert(tree map[string]any, k Key, text string) error {
	var parsed struct{ V any }
	c := Default()
	err := toml.Unmarshal([]byte("V = "+text), &parsed)
	if err == nil && !strings.ContainsAny(text, "\n\r") {
		err = k.assign(&c, parsed.V)
	}
	if _, list := parsed.V.([]any); list && err != nil {
		return fmt.Errorf("%s %w", k.Name, err) // a list with a mistake is no name in brackets
	}
	if err != nil || strings.ContainsAny(text, "\n\r") {
		if bare := k.assign(&c, text); bare != nil {
			if parsed.V == nil {
				err = bare
			}
			return fmt.Errorf("%s %w", k.Name, err)
		}
		parsed.V = text
	}
	if list, ok := tables(parsed.V); ok {
		for _, table := range list {
			for name := range table {
				if !knownItem(k, name) {
					return fmt.Errorf("unknown key %q in %s", name, k.Name)
				}
			}
		}
	}
	parts := strings.Split(k.Name, ".")
	for _, p := range parts[:len(parts)-1] {
		inner, ok := tree[p].(map[string]any)
		if !ok {
			inner = map[string]any{}
			tree[p] = inner
		}
		tree = inner
	}
	tree[parts[len(parts)-1]] = parsed.V
	return nil
}

func knownItem(k Key, name string) bool {
	for _, item := range k.items {
		if item.Name == name {
			return true
		}
	}
	return len(k.items) == 0
}

// remove takes a dotted key out of nested tables, and tables that are empty then.
func remove(tree map[string]any, name string) {
	head, rest, nested := strings.Cut(name, ".")
	if !nested {
		delete(tree, head)
		return
	}
	if inner, ok := tree[head].(map[string]any); ok {
		if remove(inner, rest); len(inner) == 0 {
			delete(tree, head)
		}
	}
}

// render writes the tables as TOML under a line that says whose file it is.
func render(tree map[string]any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Written by `latchkey config set`. Your own settings belong in latchkey.toml.\n")
	if len(tree) == 0 {
		return b.Bytes(), nil
	}
	enc := toml.NewEncoder(&b)
	enc.SetTablesInline(false)
	enc.SetArraysMultiline(false)
	err := enc.Encode(tree)
	return b.Bytes(), err
}

// Text returns the configuration as a file that loads to the same again: every
// key that differs from its default.
func (l *Loaded) Text() string {
	defaults := Default()
	var b strings.Builder
	for _, k := range Keys() {
		if v := k.Value(&l.Config); k.Name == "version" || v != k.Value(&defaults) {
			fmt.Fprintf(&b, "%s = %s\n", k.Name, v)
		}
	}
	return b.String()
}
