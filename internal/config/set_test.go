// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMerge(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir+"/latchkey.toml", "version = 1\n[directory]\nsync_interval = \"20s\"\ndns = [\"10.0.0.4\", \"[fd00::1]:5353\"]\n[log]\nlevel = \"warn\"\n[locked]\nkeys = [\"nss\", \"idmap.base\"]\n")
	folder := dir + "/conf.d"
	write(t, folder+"/10-a.toml", "[log]\nlevel = \"debug\"\n[directory]\ndns = [\"10.0.0.9\"]\n")
	write(t, folder+"/20-b.toml", "[log]\nlevel = \"error\"\n[nss]\nshell = \"/bin/evil\"\n[idmap]\nbase = 5000\nmethod = \"sssd\"\n")
	write(t, folder+"/30-c.txt", "nonsense")
	l, err := Load(file, folder)
	if err != nil {
		t.Fatal(err)
	}
	if l.Log.Level != "error" || l.Directory.SyncInterval != 20*time.Second || len(l.Directory.DNS) != 1 || l.Directory.DNS[0].String() != "10.0.0.9:53" {
		t.Errorf("merged: got %+v", l.Config)
	}
	if l.NSS.Shell != "/bin/bash" || l.IDMap.Base != 0 || l.IDMap.Method != "sssd" {
		t.Errorf("locked keys: got shell %s, base %d, method %s", l.NSS.Shell, l.IDMap.Base, l.IDMap.Method)
	}
	if len(l.Warnings) != 2 || l.Warnings[0].Line != 4 || l.Warnings[1].Line != 6 {
		t.Errorf("warnings: got %v, want lines 4 and 6", l.Warnings)
	}
	if got, want := l.Origin["log.level"], folder+"/20-b.toml:2"; got != want {
		t.Errorf("origin: got %s, want %s", got, want)
	}
	write(t, folder+"/40-d.toml", "[locked]\nkeys = []\n")
	if _, err := Load(file, folder); err == nil || !strings.Contains(err.Error(), "40-d.toml:2: only latchkey.toml locks keys") {
		t.Errorf("locking in conf.d: got %v", err)
	}
}

func TestMissingFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir+"/none.toml", dir+"/none.d"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a named file that is not there: got %v, want not found", err)
	}
	l, err := Load("", dir+"/none.d")
	if err != nil || !reflect.DeepEqual(l.Config, Default()) {
		t.Errorf("no file: got %v, %v; want the defaults", l, err)
	}
}

func TestSet(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir+"/latchkey.toml", "version = 1\n[locked]\nkeys = [\"idmap\"]\n")
	folder := dir + "/conf.d"
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key, value string
		show       string     // of the key afterwards
		kind       fault.Kind // of the error; Unknown: none
	}{
		{"directory.people", "hybrid", `"hybrid"`, fault.Unknown},
		{"directory.people", `"cloud-only"`, `"cloud-only"`, fault.Unknown},
		{"directory.people", "hybird", `"cloud-only"`, fault.Malformed},
		{"directory.tenant", "8B0F2A6E-3C4D-4E5F-9A1B-2C3D4E5F6A7B", `"8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b"`, fault.Unknown},
		{"directory.dns", `["10.0.0.4", "10.0.0.5"]`, `["10.0.0.4", "10.0.0.5"]`, fault.Unknown},
		{"directory.dns", "10.0.0.6", `["10.0.0.6"]`, fault.Unknown},
		{"directory.max_deletions", "20", "20", fault.Unknown},
		{"directory.max_deletions", "0", "20", fault.Malformed},
		{"nss.enumerate", "false", "false", fault.Unknown},
		{"nss.shell", "/bin/zsh", `"/bin/zsh"`, fault.Unknown},
		{"nss.shell", "zsh", `"/bin/zsh"`, fault.Malformed},
		{"nss.override", `[{ group = "Désigners", shell = "/bin/sh" }]`, `[{ group = "Désigners", shell = "/bin/sh" }]`, fault.Unknown},
		{"nss.override", `[{ grop = "x" }]`, `[{ group = "Désigners", shell = "/bin/sh" }]`, fault.Malformed},
		{"names.reserved", `["a\"b"]`, "['a\"b']", fault.Unknown},
		{"idmap.method", "sssd", `"rid"`, fault.Denied},
		{"locked.keys", `["log"]`, `["idmap"]`, fault.Denied},
		{"version", "1", "1", fault.Denied},
		{"log.level", "info\n[idmap]\nbase = 1000", `"info"`, fault.Malformed},
		{"log.levl", "info", "", fault.Malformed},
		{"nss.shell", "", `"/bin/bash"`, fault.Unknown},
	} {
		_, err := set(file, folder, test.key, test.value)
		if got := fault.KindOf(err); got != test.kind || (err == nil) != (test.kind == fault.Unknown) {
			t.Errorf("set %s %s: got %v (%v), want %v", test.key, test.value, got, err, test.kind)
		}
		l, err := Load(file, folder)
		if err != nil {
			t.Fatalf("after set %s %s: %v", test.key, test.value, err)
		}
		if k, ok := Lookup(test.key); ok {
			if got := k.Value(&l.Config); got != test.show {
				t.Errorf("after set %s %s: got %s, want %s", test.key, test.value, got, test.show)
			}
		}
	}
	write(t, folder+"/99-last.toml", "[log]\nlevel = \"debug\"\n")
	if _, err := set(file, folder, "log.level", "warn"); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "99-last.toml:2") {
		t.Errorf("set what a later file sets: got %v, want a conflict that names it", err)
	}
	left, err := filepath.Glob(folder + "/.set-*")
	if err != nil || len(left) != 0 {
		t.Errorf("trial files left behind: %v %v", left, err)
	}
}

// Files as editors of Windows write them.
func set(file, folder, key, value string) (*Loaded, error) {
	return SetAll(file, folder, map[string]string{key: value})
}
