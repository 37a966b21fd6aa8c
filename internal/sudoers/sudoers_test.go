// SPDX-License-Identifier: Apache-2.0

package sudoers_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/sudoers"
)

// machine is a root with sudo; refuse names the visudo run, counted from 1, that
// says no.
func machine(t *testing.T, include string) (f sudoers.Files, dir string, refuse *int, asked *[]string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, sudoers.Dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/sudoers"), []byte("Defaults env_reset\n"+include+"\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	refuse, asked = new(int), &[]string{}
	return sudoers.Files{Files: etcfile.Files{Root: dir}, Check: func(_ context.Context, path string) error {
		*asked = append(*asked, path)
		if path != "" {
			if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != 0o440 {
				t.Errorf("visudo is shown %s: %v, %v", path, info, err)
			}
		}
		if len(*asked) == *refuse {
			return errors.New("syntax error near line 3")
		}
		return nil
	}}, dir, refuse, asked
}

var admins = sudoers.Grant{GID: 100001201, SID: "S-1-5-21-1-2-3-1200", Name: `nas "admins", %ALL=Größe`}

func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(dir, sudoers.Dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

func TestGrant(t *testing.T) {
	f, dir, _, asked := machine(t, "@includedir /etc/sudoers.d")
	if all, err := f.List(); err != nil || len(all) != 0 {
		t.Errorf("at first: %v, %v", all, err)
	}
	for range 2 { // a second time changes nothing
		if err := f.Add(t.Context(), admins); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, admins.File()))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if lines[len(lines)-1] != "%#100001201 ALL=(ALL:ALL) ALL" || !strings.HasPrefix(lines[0], "#") || !strings.HasPrefix(lines[1], "#") || len(lines) != 3 {
		t.Errorf("the file:\n%s", text)
	}
	if info, err := os.Stat(filepath.Join(dir, admins.File())); err != nil || info.Mode().Perm() != 0o440 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if !slices.Equal((*asked)[:3], []string{"", "/etc/sudoers.d/.latchkey-100001201.new", ""}) {
		t.Errorf("visudo looked at %q", *asked)
	}
	if err := os.WriteFile(filepath.Join(dir, sudoers.Dir, "latchkey-7"), []byte("%wheel ALL=(ALL) ALL\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	if all, err := f.List(); err != nil || !slices.Equal(all, []sudoers.Grant{admins}) {
		t.Errorf("the list: %+v, %v", all, err)
	}
	if err := f.Remove(sudoers.Grant{GID: 7}); !fault.Is(err, fault.Conflict) {
		t.Errorf("somebody else's file: %v", err)
	}
	if err := f.Remove(admins); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(admins); !fault.Is(err, fault.NotFound) {
		t.Errorf("a second time: %v", err)
	}
	if got := left(t, dir); !slices.Equal(got, []string{"latchkey-7"}) {
		t.Errorf("left: %q", got)
	}
}

func TestWhatVisudoRefusesIsNotThere(t *testing.T) {
	for run := 1; run <= 3; run++ {
		f, dir, refuse, _ := machine(t, "#includedir /etc/sudoers.d/")
		*refuse = run
		err := f.Add(t.Context(), admins)
		if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "syntax error near line 3") {
			t.Errorf("refused at %d: %v", run, err)
		}
		if got := left(t, dir); len(got) != 0 {
			t.Errorf("refused at %d, left: %q", run, got)
		}
	}
	// A grant of before stays.
	f, dir, refuse, asked := machine(t, "@includedir /etc/sudoers.d")
	if err := f.Add(t.Context(), admins); err != nil {
		t.Fatal(err)
	}
	*refuse = len(*asked) + 3
	renamed := admins
	renamed.Name = "other"
	if err := f.Add(t.Context(), renamed); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
	if all, err := f.List(); err != nil || !slices.Equal(all, []sudoers.Grant{admins}) || len(left(t, dir)) != 1 {
		t.Errorf("after that: %+v, %v, %q", all, err, left(t, dir))
	}
}

func TestWhereSudoDoesNotLook(t *testing.T) {
	f, dir, _, _ := machine(t, "# @includedir /etc/sudoers.d")
	if err := f.Add(t.Context(), admins); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Remedy(err), "@includedir /etc/sudoers.d") {
		t.Errorf("not included: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "etc")); err != nil {
		t.Fatal(err)
	}
	if err := f.Add(t.Context(), admins); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.Remedy(err), "install sudo") {
		t.Errorf("no sudo: %v", err)
	}
	if all, err := f.List(); err != nil || len(all) != 0 {
		t.Errorf("no sudo: %v, %v", all, err)
	}
	for _, g := range []sudoers.Grant{{GID: 27, SID: "S-1-5-32-544"}, {GID: 100001201}} {
		if err := f.Add(t.Context(), g); !fault.Is(err, fault.Malformed) {
			t.Errorf("%+v: %v", g, err)
		}
	}
}
