// SPDX-License-Identifier: Apache-2.0

package smbconf

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

const line = marker + include + "\n"

func TestInsert(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", line},
		{"no section at all", "workgroup = X\n", "workgroup = X\n" + line},
		{"before the first section", "# shares\n[data]\npath = /x\n", line + "# shares\n[data]\npath = /x\n"},
		{"at the end of global", "[global]\n  workgroup = X\n\n# ---- shares\n[data]\npath = /x\n", "[global]\n  workgroup = X\n" + line + "\n# ---- shares\n[data]\npath = /x\n"},
		{"the last of two", "[global]\na = b\n[data]\npath = /x\n[ Global ]\nc = d\n[more]\n", "[global]\na = b\n[data]\npath = /x\n[ Global ]\nc = d\n" + line + "[more]\n"},
		{"an empty section", "[global]\n[data]\n", "[global]\n" + line + "[data]\n"},
		{"a line that goes on", "[global]\na = b \\\n  [not a section]\n\n[data]\n", "[global]\na = b \\\n  [not a section]\n" + line + "\n[data]\n"},
		{"no end of the last line", "[global]\na = b", "[global]\na = b\n" + marker + include},
		{"there already", "[global]\nINCLUDE=/etc/samba/latchkey.conf\n[data]\n", "[global]\nINCLUDE=/etc/samba/latchkey.conf\n[data]\n"},
		{"commented out", "[global]\n# include = /etc/samba/latchkey.conf\n[data]\n", "[global]\n" + line + "# include = /etc/samba/latchkey.conf\n[data]\n"},
	} {
		got := string(Insert([]byte(test.text)))
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		if again := string(Insert([]byte(got))); again != got {
			t.Errorf("%s: a second time changes it: %q", test.name, again)
		}
		if test.name == "there already" {
			continue
		}
		if back := string(Cut([]byte(got))); back != test.text {
			t.Errorf("%s: taken out again: got %q, want %q", test.name, back, test.text)
		}
	}
	// The administrator edits the file meanwhile.
	if got := string(Cut([]byte("[global]\na = b\n" + line + "c = d\n[new]\n"))); got != "[global]\na = b\nc = d\n[new]\n" {
		t.Errorf("after an edit: got %q", got)
	}
	for _, text := range []string{"", "[global]\n", "x " + marker + include + "\n", marker + include + ".old\n"} {
		if got := string(Cut([]byte(text))); got != text {
			t.Errorf("Cut(%q) = %q", text, got)
		}
	}
}

// Whatever stands in the file, taking the line out again gives it back.
func FuzzInsert(f *testing.F) {
	for _, s := range []string{"", "[global]\na = b\n\n[x]\n", "a", "[", "[global", "\\\n", "[global]\na=\\\n", "\r\n[GLOBAL]\r\nx=y\r\n", "\x00[global]\n;"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte(Fragment)) {
			return
		}
		with := Insert(text)
		if !includes(with) {
			t.Fatalf("%q does not include the fragment", with)
		}
		if got := Cut(with); !bytes.Equal(got, text) {
			t.Errorf("got %q, want %q", got, text)
		}
	})
}

var (
	settings = Settings{Realm: "AADDS.CONTOSO.TEST", Workgroup: "AADDSCONTOSO", Netbios: "NAS1", Low: 100000001, High: 200000000}
	before   = Record{SMBConf: Main, DomainSID: "S-1-5-21-9-9-9", LocalSID: "S-1-5-21-7-7-7"}
)

func TestRender(t *testing.T) {
	text, err := Render(settings, before)
	if err != nil {
		t.Fatal(err)
	}
	r, made, changed := read(text)
	if r != before || !made || changed {
		t.Errorf("read back: %+v, made %v, changed %v", r, made, changed)
	}
	for _, want := range []string{"\nsecurity = ads\n", "\nkerberos method = dedicated keytab\n", "\ndedicated keytab file = /etc/krb5.keytab\n",
		"\nmachine password timeout = 0\n", "\ntdbsam:map builtin = no\n", "\nidmap config * : range = 100000001-200000000\n", "\nserver role = member server\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the fragment does not say %q:\n%s", want, text)
		}
	}
	if _, _, changed := read(append(text, "log level = 3\n"...)); !changed {
		t.Error("a line more is not noticed")
	}
	if _, made, _ := read([]byte("[global]\n")); made {
		t.Error("somebody else's file is taken for ours")
	}
	for _, bad := range []Settings{{}, {Realm: "A\nB", Workgroup: "X", Netbios: "Y", Low: 1, High: 2}, {Realm: "A", Workgroup: "X", Netbios: "Y", Low: 2, High: 1}} {
		if _, err := Render(bad, before); !fault.Is(err, fault.Malformed) {
			t.Errorf("%+v: got %v, want malformed", bad, err)
		}
	}
}

// machine is a root directory with Samba's folder in it.
func machine(t *testing.T, smbConf string) (Files, func(name string) string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc/samba"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, Main), []byte(smbConf), 0o640); err != nil {
		t.Fatal(err)
	}
	return Files{Root: dir}, func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
}

func TestApplyAndRemove(t *testing.T) {
	const mine = "[global]\n  workgroup = WORKGROUP\n  server role = standalone server\n\n[homes]\n  read only = yes\n"
	files, content := machine(t, mine)
	p, err := files.Plan(settings, before)
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Diff(); !strings.Contains(d, "+++ /etc/samba/latchkey.conf") || !strings.Contains(d, "+include = /etc/samba/latchkey.conf") || len(p.Changes()) != 2 {
		t.Errorf("the diff: %s", d)
	}
	name, drop, err := files.Candidate(p)
	if err != nil || !strings.Contains(content(name), include) || content(Main) != mine {
		t.Errorf("candidate %s: %v", name, err)
	}
	drop()
	if err := files.WriteFragment(p); err != nil {
		t.Fatal(err)
	}
	if err := files.WriteMain(p); err != nil {
		t.Fatal(err)
	}
	if st, err := files.State(Main); err != nil || !st.Made || !st.Included || st.Changed || st.Record != before {
		t.Errorf("state: %+v, %v", st, err)
	}
	if content(Main+".before-latchkey") != mine {
		t.Error("what was there is not kept")
	}
	if info, err := os.Stat(filepath.Join(files.Root, Main)); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file's mode changed: %v, %v", info.Mode(), err)
	}
	again, err := files.Plan(settings, before)
	if err != nil || len(again.Changes()) != 0 {
		t.Errorf("a second time: %v, %s", err, again.Diff())
	}
	// The administrator goes on with the file.
	edited := strings.Replace(content(Main), "read only = yes", "read only = no", 1)
	if err := os.WriteFile(filepath.Join(files.Root, Main), []byte(edited), 0o640); err != nil {
		t.Fatal(err)
	}
	out, err := files.PlanRemove(Main)
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Remove(out); err != nil {
		t.Fatal(err)
	}
	if got := content(Main); got != strings.Replace(mine, "read only = yes", "read only = no", 1) {
		t.Errorf("after Remove: %q", got)
	}
	if len(out.Notes) != 1 || !strings.Contains(out.Notes[0], Main+".before-latchkey") {
		t.Errorf("notes: %q", out.Notes)
	}
	if !strings.Contains(content(Fragment), "no such file") {
		t.Error("the fragment is left behind")
	}
}

func TestUndo(t *testing.T) {
	const mine = "[global]\nworkgroup = X"
	files, content := machine(t, mine)
	for _, steps := range []int{0, 1, 2} {
		p, err := files.Plan(settings, before)
		if err != nil {
			t.Fatal(err)
		}
		if steps > 0 {
			if err := files.WriteFragment(p); err != nil {
				t.Fatal(err)
			}
		}
		if steps > 1 {
			if err := files.WriteMain(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := files.Undo(p); err != nil {
			t.Errorf("after %d steps: %v", steps, err)
		}
		entries, _ := os.ReadDir(filepath.Join(files.Root, "etc/samba"))
		if content(Main) != mine || len(entries) != 1 {
			t.Errorf("after %d steps: %q and %d files", steps, content(Main), len(entries))
		}
	}
}

func TestRefusals(t *testing.T) {
	files, content := machine(t, "[global]\n")
	at := func(name string) string { return filepath.Join(files.Root, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := files.Plan(settings, Record{SMBConf: "/etc/samba/none.conf"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a missing file: %v", err)
	}
	for _, bad := range []string{"", "smb.conf", "/etc/a\nb"} {
		if _, err := files.Plan(settings, Record{SMBConf: bad}); !fault.Is(err, fault.Malformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	write(Fragment, "[global]\n# mine\n")
	if _, err := files.Plan(settings, before); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "+include = ") {
		t.Errorf("somebody else's fragment: %v", err)
	}
	if p, err := files.PlanRemove(Main); err != nil || len(p.Changes()) != 0 || len(p.Notes) != 1 {
		t.Errorf("somebody else's fragment is removed: %+v, %v", p, err)
	}
	if err := os.Remove(at(Fragment)); err != nil {
		t.Fatal(err)
	}
	write("/etc/samba/real.conf", "[global]\n")
	for name, target := range map[string]string{"/etc/samba/link.conf": "real.conf", "/etc/samba/far.conf": at("/etc/samba/real.conf")} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
		if _, err := files.Plan(settings, Record{SMBConf: name}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "+include = ") || !strings.Contains(fault.Remedy(err), "--smb-conf") {
			t.Errorf("a link to %s: %v; %s", target, err, fault.Remedy(err))
		}
		if s, err := files.State(name); err != nil || s.Included {
			t.Errorf("a link to %s: %+v, %v", target, s, err)
		}
	}
	// Between the plan and its doing somebody else writes.
	p, err := files.Plan(settings, before)
	if err != nil {
		t.Fatal(err)
	}
	write(Main, "[global]\nnew = line\n")
	if err := files.WriteMain(p); !fault.Is(err, fault.Conflict) || content(Main) != "[global]\nnew = line\n" {
		t.Errorf("a file changed in between: %v", err)
	}
	// A fragment that somebody edited is kept.
	if p, err = files.Plan(settings, before); err != nil {
		t.Fatal(err)
	}
	if err := files.WriteFragment(p); err != nil {
		t.Fatal(err)
	}
	write(Fragment, content(Fragment)+"log level = 3\n")
	if p, err = files.Plan(settings, before); err != nil || len(p.Notes) != 1 {
		t.Errorf("an edited fragment: %v, %+v", err, p)
	}
	if err := files.WriteFragment(p); err != nil || !strings.Contains(content(Fragment+".before-latchkey"), "log level = 3") {
		t.Errorf("an edited fragment is not kept: %v", err)
	}
}

func TestIdmapDomains(t *testing.T) {
	got := IdmapDomains(Effective("[global]\n\tidmap config * : range = 1-2\n\tidmap config  contoso:range = 3-4\n\tidmap config B.C : range = 5-6\n\tidmap config \"D\" : range = 7-8\n\tidmap config E : backend = rid\n"))
	if !slices.Equal(got, []string{"B.C", "CONTOSO"}) {
		t.Errorf("got %q", got)
	}
}

func TestOverruled(t *testing.T) {
	text, err := os.ReadFile("testdata/testparm-4.17.txt")
	if err != nil {
		t.Fatal(err)
	}
	effective := Effective(string(text))
	if got := Overruled(effective, settings); len(got) != 0 {
		t.Errorf("testparm's own words are not understood: %q", got)
	}
	effective["security"] = "user"
	delete(effective, "tdbsam:map builtin")
	got := strings.Join(Overruled(effective, settings), "; ")
	if got != `security = user holds, ads is needed; tdbsam:map builtin = "" holds, no is needed` {
		t.Errorf("got %s", got)
	}
}
