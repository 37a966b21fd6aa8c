// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/publish"
)

func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		name, text, want string
	}{
		{"unknown key", "version = 1\n[directory]\n\ndsn = [\"10.0.0.4\"]\n", `c:4: unknown key "directory.dsn"; did you mean "directory.dns"?`},
		{"unknown key, right word elsewhere", "version = 1\n[directory]\nreserved = []\n", `c:3: unknown key "directory.reserved"; did you mean "names.reserved"?`},
		{"unknown key at the top", "version = 1\nlevel = \"info\"\n", `c:2: unknown key "level"; did you mean "log.level"?`},
		{"unknown key, nothing near", "version = 1\n[log]\nzzzzzzzz = 1\n", `c:3: unknown key "log.zzzzzzzz"`},
		{"unknown section", "version = 1\n[direktory]\ndns = []\n", `c:2: unknown section "direktory"; did you mean "directory"?`},
		{"unknown dotted key", "version = 1\nlog.levle = \"info\"\n", `c:2: unknown key "log.levle"; did you mean "log.level"?`},
		{"unknown key in an inline table", "version = 1\nlog = { level = \"info\",\n frmat = \"text\" }\n", `c:3: unknown key "log.frmat"; did you mean "log.format"?`},
		{"unknown key in a list of tables", "version = 1\n[[nss.override]]\ngroup = \"a\"\n[[nss.override]]\ngroup = \"b\"\nshel = \"/bin/sh\"\n",
			`c:6: unknown key "shel" in nss.override; did you mean "shell"?`},
		{"unknown key in an inline list", "version = 1\n[nss]\noverride = [{ group = \"a\", hom = \"/x\" }]\n", `c:3: unknown key "hom" in nss.override; did you mean "home"?`},
		{"section as a key", "version = 1\nlog = \"info\"\n", `c:2: log is a section; write [log] and its keys below`},
		{"no version", "[log]\nlevel = \"info\"\n", `c: the version is missing; write version = 1 above the first section`},
		{"newer version", "version = 2\n", `c:1: version 2 is for a newer latchkey; this one reads version 1`},
		{"version zero", "version = 0\n", `c:1: version is 0; allowed is 1`},
		{"word", "version = 1\n[log]\nlevel = \"wran\"\n", `c:3: log.level is "wran"; allowed is "debug", "info", "warn" or "error"; did you mean "warn"?`},
		{"too long", "version = 1\n[directory]\nsync_interval = \"2h\"\n", `c:3: directory.sync_interval is "2h"; allowed is from 1s to 1h`},
		{"no time", "version = 1\n[directory]\nsync_interval = 30\n", `c:3: directory.sync_interval wants a time as "90s", "15m" or "1h", from 1s to 1h`},
		{"number", "version = 1\n[directory]\nmax_deletions = 101\n", `c:3: directory.max_deletions is 101; allowed is from 1 to 100`},
		{"no number", "version = 1\n[directory]\nmax_deletions = \"10\"\n", `c:3: directory.max_deletions wants a number from 1 to 100`},
		{"no bool", "version = 1\n[nss]\nenumerate = \"yes\"\n", `c:3: nss.enumerate wants true or false`},
		{"no guid", "version = 1\n[directory]\ntenant = \"contoso\"\n", `c:3: directory.tenant "contoso" is no id of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`},
		{"no address", "version = 1\n[directory]\ndns = [\"dc1\"]\n", `c:3: directory.dns "dc1" is no address: it wants 10.0.0.4, 10.0.0.4:53 or [fd00::4]:53`},
		{"no host", "version = 1\n[directory]\ndomain_controllers = [\"dc 1\"]\n", `c:3: directory.domain_controllers "dc 1" is neither a host name nor an address`},
		{"template letter", "version = 1\n[nss]\nhome = \"/home/%x\"\n", `c:3: nss.home "/home/%x" has %x, which means nothing; use %u %U %D %d %n %p %l or %%`},
		{"template colon", "version = 1\n[nss]\ngecos = \"%n:%u\"\n", `c:3: nss.gecos "%n:%u" has a colon, which ends a field of passwd`},
		{"relative home", "version = 1\n[nss]\nhome = \"home\"\n", `c:3: nss.home "home" is no absolute path`},
		{"climbing home", "version = 1\n[nss]\nhome = \"/home/../%u\"\n", `c:3: nss.home "/home/../%u" has a .. in it`},
		{"override without group", "version = 1\n[[nss.override]]\nshell = \"/bin/sh\"\n", `c:2: nss.override entry 1: group wants a text`},
		{"locked nothing", "version = 1\n[locked]\nkeys = [\"idmpa\"]\n", `c:3: locked.keys "idmpa" is no key and no section; did you mean "idmap"?`},
		{"authenticator", "version = 1\n[api]\nauthenticators = [\"uid:-1\"]\n", `c:3: api.authenticators "uid:-1" "-1" is no number from 0 to 4294967294`},
		{"range past the end", "version = 1\n[idmap]\nbase = 4294960000\nsize = 100000\n",
			`[idmap] ids from 4294960000 to 4295059999: the range has to lie between 1000 and 4294967294`},
		{"same key twice", "version = 1\n[log]\nlevel = \"info\"\nlevel = \"warn\"\n", `c:4: key level is already defined`},
		{"no TOML", "version = 1\n[log\n", "c:2: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("c", []byte(test.text))
			var ms Mistakes
			if !errors.As(err, &ms) {
				t.Fatalf("got %v, want mistakes", err)
			}
			if !fault.Is(err, fault.Malformed) {
				t.Errorf("kind: got %v, want malformed", fault.KindOf(err))
			}
			if len(ms) != 1 {
				t.Errorf("got %d mistakes, want 1:\n%v", len(ms), ms)
			}
			if got := ms[0].Error(); got != test.want && (test.name != "no TOML" || !strings.HasPrefix(got, test.want)) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestEveryMistakeIsTold(t *testing.T) {
	_, err := Parse("c", []byte("version = 1\n[log]\nlevel = \"x\"\nfoo = 1\n[nss]\nenumerate = 3\n[bar]\n"))
	var ms Mistakes
	if !errors.As(err, &ms) || len(ms) != 4 {
		t.Fatalf("got %v, want four mistakes", err)
	}
	for i, line := range []int{3, 4, 6, 7} {
		if ms[i].Line != line {
			t.Errorf("mistake %d: got line %d, want %d (%v)", i, ms[i].Line, line, ms[i])
		}
	}
}

func TestDefaultsPassTheirOwnChecks(t *testing.T) {
	d := Default()
	for _, k := range Keys() {
		var parsed Config
		c := Default()
		parsed = c
		text := k.Value(&d)
		if text == `""` && !k.clearable() {
			if err := k.assign(&parsed, ""); err != nil {
				t.Errorf("%s: default is refused: %v", k.Name, err)
			}
			continue
		}
		tree := map[string]any{}
		if err := insert(tree, k, text); err != nil {
			t.Errorf("%s: default %s is refused: %v", k.Name, text, err)
		}
		if k.Example != "" {
			if err := insert(tree, k, k.Example); err != nil {
				t.Errorf("%s: example %s is refused: %v", k.Name, k.Example, err)
			}
		}
		if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: words are missing or end without a full stop", k.Name)
		}
	}
}

// What the publisher makes of a template is not told by the parser of another
// package: both must take and refuse the same.
func TestTemplatesAreThePublishers(t *testing.T) {
	if templateLetters != publish.Variables {
		t.Errorf("letters: got %q, want %q", templateLetters, publish.Variables)
	}
	for _, text := range []string{"", "/home/%D/%u", "/%l/%U%%", "/x/%", "/x/%z", "home/%u", "/a/../b", "/a/..", "/a:b", "/a\tb", "/a\xffb", "/..a/b", "/é/%d", "%n", "%n, %p", "a:b"} {
		_, path := publish.NewPolicy(publish.Settings{Home: text})
		if got := checkTemplatePath(text); (got == nil) != (path == nil) {
			t.Errorf("path %q: got %v, the publisher says %v", text, got, path)
		}
		_, plain := publish.NewPolicy(publish.Settings{Gecos: text})
		if got := checkTemplate(text); (got == nil) != (plain == nil) {
			t.Errorf("text %q: got %v, the publisher says %v", text, got, plain)
		}
	}
	for _, pattern := range []string{"*", "a[b", "[a-z]*", "\\", "x?"} {
		_, err := publish.NewPolicy(publish.Settings{Users: publish.Filter{Hide: []string{pattern}}})
		if got := checkPattern(pattern); (got == nil) != (err == nil) {
			t.Errorf("pattern %q: got %v, the publisher says %v", pattern, got, err)
		}
	}
}

// Every field of Config is reached by exactly one key.
func TestTableIsComplete(t *testing.T) {
	c := Default()
	seen := map[any]string{}
	for _, k := range Keys() {
		p := k.field(&c)
		if other, dup := seen[p]; dup {
			t.Errorf("%s and %s are the same field", k.Name, other)
		}
		seen[p] = k.Name
	}
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		if _, ok := seen[v.Addr().Interface()]; ok {
			return
		}
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
			return
		}
		t.Errorf("no key sets Config%s", path)
	}
	walk(reflect.ValueOf(&c).Elem(), "")
}

// The example file loads as it is, and so it does with every line switched on.
func TestExample(t *testing.T) {
	text := Example()
	l, err := Parse("example", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(l.Config, Default()) {
		t.Errorf("the example as it is: got %+v, want the defaults", l.Config)
	}
	var on strings.Builder
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") && line != "#" {
			line = line[1:]
		}
		on.WriteString(line + "\n")
	}
	l, err = Parse("example", []byte(on.String()))
	if err != nil {
		t.Fatalf("the example with every line on: %v", err)
	}
	for _, k := range Keys() {
		if l.Origin[k.Name] == "" {
			t.Errorf("the example does not show %s", k.Name)
		}
		if !strings.Contains(Manual(), ".B "+roff(k.Name)+"\n") {
			t.Errorf("the manual does not show %s", k.Name)
		}
	}
}

func TestMarkAndLineEndsOfWindows(t *testing.T) {
	l, err := Parse("latchkey.toml", []byte("\ufeffversion = 1\r\n[nss]\r\nshell = \"/bin/zsh\"\r\n"))
	if err != nil || l.NSS.Shell != "/bin/zsh" || l.Origin["nss.shell"] != "latchkey.toml:3" {
		t.Errorf("got %v, %v", l, err)
	}
}

// The worker owns conf.d, root reads it: a link or a pipe there is refused.
func TestOnlyPlainFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/secret", "root:$6$hash:19000\n")
	write(t, dir+"/conf.d/10-ok.toml", "[log]\nlevel = \"warn\"\n")
	if err := os.Symlink(dir+"/secret", dir+"/conf.d/20-link.toml"); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("", dir+"/conf.d"); err == nil || !strings.Contains(err.Error(), "20-link.toml: cannot be read") || strings.Contains(err.Error(), "hash") {
		t.Errorf("a link: got %v", err)
	}
	if err := os.Remove(dir + "/conf.d/20-link.toml"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/conf.d/30-pipe.toml", 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("", dir+"/conf.d"); err == nil || !strings.Contains(err.Error(), "30-pipe.toml: is no plain file") {
		t.Errorf("a pipe: got %v", err)
	}
}

// What parses and passes can be shown and read again with the same result.
func FuzzParse(f *testing.F) {
	f.Add(Example())
	f.Add("version = 1\n[nss]\noverride = [{ group = 'a\\b', home = \"/h/%u\" }]\n")
	f.Add("version = 1\n[directory]\ndns = ['::1', '10.0.0.1:54']\nsync_interval = '1m1s'\n")
	f.Add("version = 1\n[nss.users]\nhide = ['[a-z]*', \"\\u00e9\"]\n[api]\nauthenticators = ['uid:0']\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Parse("fuzz", []byte(text))
		if err != nil {
			return
		}
		var b strings.Builder
		for _, k := range Keys() {
			if v := k.Value(&l.Config); v != `""` {
				b.WriteString(k.Name + " = " + v + "\n")
			}
		}
		again, err := Parse("again", []byte(b.String()))
		if err != nil {
			t.Fatalf("shown and read again: %v\n%s", err, b.String())
		}
		for _, k := range Keys() {
			if got, want := k.Value(&again.Config), k.Value(&l.Config); got != want {
				t.Errorf("%s: got %s, want %s", k.Name, got, want)
			}
		}
	})
}
