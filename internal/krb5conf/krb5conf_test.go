// SPDX-License-Identifier: Apache-2.0

package krb5conf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/etcfile"
	"github.com/latchkey-nas/latchkey/internal/fault"
)

var settings = Settings{Realm: "AADDS.CONTOSO.TEST", Domain: "aadds.contoso.test", KDCs: []string{"10.77.0.1", "fd00::1"}}

// box makes a root directory with the given files below /etc.
func box(t *testing.T, files map[string]string) (Files, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		file := filepath.Join(dir, "etc", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Files{dir}, dir
}

// tree returns every file below dir with its content, and every directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			all[name+"/"] = ""
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			all[name] = "-> " + to
			return err
		}
		b, err := os.ReadFile(path)
		all[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for name, text := range want {
		if have, ok := got[name]; !ok || have != text {
			t.Errorf("%s: %s = %q, want %q", what, name, have, text)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s was left behind", what, name)
		}
	}
}

// effective returns what a program would read for a key.
func effective(t *testing.T, dir, section, key string) string {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	p, err := readProfile(root, mainFile)
	if err != nil {
		t.Fatal(err)
	}
	own, err := etcfile.Read(root, ownFile)
	if err != nil {
		t.Fatal(err)
	}
	if p.ours < 0 {
		t.Fatal("nothing includes our file")
	}
	mine := &profile{ours: -1}
	if err := mine.parse(root, ownFile, own, 0); err != nil {
		t.Fatal(err)
	}
	p.relations = append(append(append([]relation{}, p.relations[:p.ours]...), mine.relations...), p.relations[p.ours:]...)
	r, _ := p.first(section, key)
	return r.value
}

const distribution = "[libdefaults]\n\tdefault_realm = ATHENA.MIT.EDU\n\n# comment\n\tkdc_timesync = 1\n\n[realms]\n\tATHENA.MIT.EDU = {\n\t\tkdc = kerberos.mit.edu\n\t\tadmin_server = kerberos.mit.edu\n\t}\n\n[domain_realm]\n\t.mit.edu = ATHENA.MIT.EDU\n"

func TestApplyAndRemove(t *testing.T) {
	for name, tc := range map[string]struct {
		files   map[string]string
		want    map[string]string // effective: "section key" -> value
		changes int
		note    string
	}{
		"nothing there": {nil, map[string]string{
			"libdefaults default_realm": "AADDS.CONTOSO.TEST", "libdefaults rdns": "false",
			"realms/AADDS.CONTOSO.TEST kdc": "10.77.0.1", "domain_realm .aadds.contoso.test": "AADDS.CONTOSO.TEST",
		}, 2, ""},
		"as the distribution ships it": {map[string]string{"krb5.conf": distribution}, map[string]string{
			"libdefaults default_realm": "AADDS.CONTOSO.TEST", "libdefaults kdc_timesync": "1", "realms/ATHENA.MIT.EDU kdc": "kerberos.mit.edu",
		}, 2, "default_realm = ATHENA.MIT.EDU"},
		"includes already": {map[string]string{"krb5.conf": "includedir /etc/krb5.conf.d/\n[libdefaults]\n rdns = true\n", "krb5.conf.d/x": "[libdefaults]\n ticket_lifetime = 1h\n"},
			map[string]string{"libdefaults rdns": "false", "libdefaults ticket_lifetime": "1h"}, 1, "rdns = true"},
		"includes too late": {map[string]string{"krb5.conf": "[libdefaults]\n rdns = true\nincludedir /etc/krb5.conf.d\n", "krb5.conf.d/x": ""},
			map[string]string{"libdefaults rdns": "false"}, 2, "overruled"},
		"a default realm of its own": {map[string]string{"krb5.conf": "[libdefaults]\n default_realm = HOME.LAN\n rdns = true\n default_tkt_enctypes = des3-cbc-sha1\n"},
			map[string]string{"libdefaults default_realm": "HOME.LAN", "libdefaults rdns": "true", "libdefaults default_tkt_enctypes": "des3-cbc-sha1",
				"libdefaults permitted_enctypes": "", "realms/AADDS.CONTOSO.TEST kdc": "10.77.0.1"}, 2, "kinit user@AADDS.CONTOSO.TEST"},
		"RC4 only": {map[string]string{"krb5.conf": "[libdefaults]\n default_tkt_enctypes = rc4-hmac\n default_tgs_enctypes = aes256-cts rc4-hmac\n"},
			map[string]string{"libdefaults default_tkt_enctypes": enctypes, "libdefaults default_tgs_enctypes": "aes256-cts rc4-hmac"}, 2, "rc4-hmac"},
		"other KDCs of ours": {map[string]string{"krb5.conf": "[realms]\n AADDS.CONTOSO.TEST = {\n kdc = old\n auth_to_local_names = {\n a = b\n }\n }\n"},
			map[string]string{"realms/AADDS.CONTOSO.TEST/auth_to_local_names a": "b"}, 2, ""},
		"final and quoted": {map[string]string{"krb5.conf": "[libdefaults]*\n default_realm* = \"HOME.LAN\"\n"},
			map[string]string{"libdefaults default_realm": "HOME.LAN"}, 2, "HOME.LAN"},
		"includes what is not there": {map[string]string{"krb5.conf": "include /etc/missing\nincludedir /nowhere\n"},
			map[string]string{"libdefaults default_realm": "AADDS.CONTOSO.TEST"}, 2, "/etc/missing"},
		"files that nothing reads": {map[string]string{"krb5.conf": "[libdefaults]\n", "krb5.conf.d/enable_sssd_conf_dir": "includedir /var/lib/sss/nowhere/\n[libdefaults]\n canonicalize = true\n"},
			map[string]string{"libdefaults rdns": "false", "libdefaults canonicalize": ""}, 2, ""},
		"files that nothing reads, and no krb5.conf": {map[string]string{"krb5.conf.d/x": "[libdefaults]\n canonicalize = true\n"},
			map[string]string{"libdefaults rdns": "false", "libdefaults canonicalize": ""}, 2, ""},
		"empty":      {map[string]string{"krb5.conf": ""}, map[string]string{"libdefaults rdns": "false"}, 2, ""},
		"no newline": {map[string]string{"krb5.conf": "[libdefaults]\n rdns = true"}, map[string]string{"libdefaults rdns": "false"}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := box(t, tc.files)
			before := tree(t, dir)
			dry, err := f.Plan(settings)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "after Plan", tree(t, dir), before)
			p, err := f.Apply(settings)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Changes) != tc.changes || len(dry.Changes) != tc.changes {
				t.Errorf("%d changes planned, %d made, want %d", len(dry.Changes), len(p.Changes), tc.changes)
			}
			if notes := strings.Join(p.Notes, "\n"); tc.note != "" && !strings.Contains(notes, tc.note) {
				t.Errorf("notes %q do not speak of %q", notes, tc.note)
			}
			for key, want := range tc.want {
				section, k, _ := strings.Cut(key, " ")
				if got := effective(t, dir, section, k); got != want {
					t.Errorf("%s = %q, want %q", key, got, want)
				}
			}
			applied := tree(t, dir)
			again, err := f.Apply(settings)
			if err != nil || len(again.Changes) != 0 {
				t.Errorf("a second Apply made %d changes, %v", len(again.Changes), err)
			}
			same(t, "after a second Apply", tree(t, dir), applied)
			// Another domain, then back to nothing.
			if _, err := f.Apply(Settings{Realm: "OTHER.TEST", Domain: "other.test"}); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Remove(); err != nil {
				t.Fatal(err)
			}
			same(t, "after Remove", tree(t, dir), before)
			if p, err := f.Remove(); err != nil || len(p.Changes) != 0 {
				t.Errorf("a second Remove made %v, %v", p, err)
			}
		})
	}
}

func TestRefusalsChangeNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		link  string // krb5.conf is a link to it
		say   string
	}{
		"no profile":         {map[string]string{"krb5.conf": "hello\n"}, "", "line 1"},
		"open brace":         {map[string]string{"krb5.conf": "[realms]\n X = {\n"}, "", "never closed"},
		"stray brace":        {map[string]string{"krb5.conf": "[realms]\n }\n"}, "", "line 2"},
		"binary":             {map[string]string{"krb5.conf": "[a]\n\x00\n"}, "", "line 2"},
		"broken section":     {map[string]string{"krb5.conf": "[a\n"}, "", "line 1"},
		"includes itself":    {map[string]string{"krb5.conf": "include /etc/krb5.conf\n"}, "", "too many"},
		"somebody else's":    {map[string]string{"krb5.conf.d/latchkey.conf": "[libdefaults]\n"}, "", "was not made by latchkey"},
		"a link":             {map[string]string{"managed.conf": ""}, "managed.conf", "not a plain file"},
		"own is a directory": {map[string]string{"krb5.conf.d/latchkey.conf/x": ""}, "", "not a plain file"},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := box(t, tc.files)
			if tc.link != "" {
				if err := os.Symlink(tc.link, filepath.Join(dir, "etc/krb5.conf")); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, dir)
			_, err := f.Apply(settings)
			if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("Apply = %v, want a conflict that says %q", err, tc.say)
			}
			if fault.Remedy(err) == "" && name != "includes itself" {
				t.Errorf("no remedy in %v", err)
			}
			same(t, "after the refusal", tree(t, dir), before)
		})
	}
}

func TestARefusalShowsTheDiff(t *testing.T) {
	f, _ := box(t, map[string]string{"krb5.conf.d/latchkey.conf": "[libdefaults]\n rdns = true\n"})
	_, err := f.Apply(settings)
	if err == nil || !strings.Contains(err.Error(), "\n- rdns = true\n") || !strings.Contains(err.Error(), "\n+    rdns = false\n") {
		t.Errorf("no diff in %v", err)
	}
}

func TestSettingsCannotSmuggleLines(t *testing.T) {
	f, dir := box(t, nil)
	for _, s := range []Settings{
		{}, {Realm: "A.TEST"}, {Realm: "A.TEST\n[x]", Domain: "a.test"}, {Realm: "a.test", Domain: "a.test"}, {Realm: "A.TEST", Domain: "A.test"},
		{Realm: "A.TEST", Domain: "a.test", KDCs: []string{"x }\n[libdefaults]\n"}}, {Realm: "A.TEST", Domain: "a.test", KDCs: []string{""}},
		{Realm: "A.TEST", Domain: "a.test", KDCs: []string{"fe80::1%eth0"}}, {Realm: "A.TEST", Domain: "a.test", KDCs: make([]string, 100)},
		{Realm: "A..TEST", Domain: "a.test"}, {Realm: "-A.TEST", Domain: "a.test"},
	} {
		if _, err := f.Apply(s); !fault.Is(err, fault.Malformed) {
			t.Errorf("Apply(%+v) = %v, want malformed", s, err)
		}
	}
	same(t, "after the refusals", tree(t, dir), map[string]string{"etc/": ""})
}

func TestHandsOfOthersAreKept(t *testing.T) {
	f, dir := box(t, map[string]string{"krb5.conf": distribution})
	if _, err := f.Apply(settings); err != nil {
		t.Fatal(err)
	}
	etc := filepath.Join(dir, "etc")
	edit := func(name string, change func(string) string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(etc, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(etc, name), []byte(change(string(b))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit("krb5.conf", func(s string) string { return "# mine\n" + s + "\n[plugins]\n" })
	edit("krb5.conf.d/latchkey.conf", func(s string) string { return s + "# mine\n" })
	if err := os.WriteFile(filepath.Join(etc, "krb5.conf.d/site.conf"), []byte("[libdefaults]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := f.Remove()
	if err != nil {
		t.Fatal(err)
	}
	got := tree(t, dir)
	if want := "# mine\n" + distribution + "\n[plugins]\n"; got["etc/krb5.conf"] != want {
		t.Errorf("krb5.conf = %q, want %q", got["etc/krb5.conf"], want)
	}
	if !strings.HasSuffix(got["etc/krb5.conf.d/latchkey.conf.before-latchkey"], "# mine\n") {
		t.Error("our file as somebody changed it is lost")
	}
	if got["etc/krb5.conf.before-latchkey"] != distribution {
		t.Error("the file from before the join is lost")
	}
	if _, ok := got["etc/krb5.conf.d/latchkey.conf"]; ok {
		t.Error("our file is still there")
	}
	notes := strings.Join(p.Notes, "\n")
	for _, say := range []string{"site.conf", "changed by hand", "krb5.conf.before-latchkey"} {
		if !strings.Contains(notes, say) {
			t.Errorf("notes %q do not speak of %q", notes, say)
		}
	}
}

func TestACreatedFileThatGrewStaysReadable(t *testing.T) {
	f, dir := box(t, nil)
	if _, err := f.Apply(settings); err != nil {
		t.Fatal(err)
	}
	main := filepath.Join(dir, "etc/krb5.conf")
	b, _ := os.ReadFile(main)
	if err := os.WriteFile(main, append(b, "[libdefaults]\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	same(t, "after Remove", tree(t, dir), map[string]string{"etc/": "", "etc/krb5.conf": "[libdefaults]\n"})
}

func TestDirectoryStaysWhileSomethingIncludesIt(t *testing.T) {
	text := "includedir /etc/krb5.conf.d\n"
	f, dir := box(t, map[string]string{"krb5.conf": text})
	if _, err := f.Apply(settings); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	same(t, "after Remove", tree(t, dir), map[string]string{"etc/": "", "etc/krb5.conf": text, "etc/krb5.conf.d/": ""})
}

func TestModesAndOwnersAreKept(t *testing.T) {
	f, dir := box(t, map[string]string{"krb5.conf": distribution})
	if err := os.Chmod(filepath.Join(dir, "etc/krb5.conf"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Apply(settings); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"krb5.conf": 0o640, "krb5.conf.before-latchkey": 0o640, "krb5.conf.d/latchkey.conf": 0o644} {
		st, err := os.Stat(filepath.Join(dir, "etc", name))
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, st.Mode().Perm(), err, want)
		}
	}
}

func FuzzProfile(f *testing.F) {
	f.Add(distribution)
	f.Add("include /etc/krb5.conf\n[a]*\nb* = {\nc = \"d\"\n}\n")
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		f.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := &profile{ours: -1}
		if err := p.parse(root, mainFile, []byte(text), 0); err != nil {
			return
		}
		// What was read prints to a profile that reads the same.
		var again strings.Builder
		for _, r := range p.relations {
			parts := strings.Split(r.section, "/")
			if strings.ContainsAny(parts[0], "]\n") {
				t.Fatalf("section %q", parts[0])
			}
			again.WriteString("[" + parts[0] + "]\n")
			for _, p := range parts[1:] {
				again.WriteString(p + " = {\n")
			}
			again.WriteString(r.key + " = \"" + r.value + "\"\n" + strings.Repeat("}\n", len(parts)-1))
		}
		q := &profile{ours: -1}
		if err := q.parse(root, mainFile, []byte(again.String()), 0); err != nil {
			if strings.Contains(text, "/") || strings.Contains(text, "*") || strings.Contains(text, "include") || strings.Contains(text, "module") {
				return // names that the printer above does not escape
			}
			t.Fatalf("%q\nprints as %q\n%v", text, again.String(), err)
		}
		if strings.ContainsAny(text, "/*") {
			return
		}
		if len(q.relations) != len(p.relations) {
			t.Fatalf("%q: %d relations, read back %d", text, len(p.relations), len(q.relations))
		}
		for i, r := range p.relations {
			if got := q.relations[i]; got.section != r.section || got.key != r.key || got.value != r.value {
				t.Fatalf("%q: %+v came back as %+v", text, r, got)
			}
		}
	})
}

func TestErrorsAreClassified(t *testing.T) {
	f := Files{filepath.Join(t.TempDir(), "missing")}
	for _, err := range []error{
		func() error { _, err := f.Plan(settings); return err }(),
		func() error { _, err := f.Apply(settings); return err }(),
		func() error { _, err := f.Remove(); return err }(),
	} {
		var e *fault.Error
		if !errors.As(err, &e) || fault.KindOf(err) == fault.Unknown {
			t.Errorf("unclassified: %v", err)
		}
	}
}
