// SPDX-License-Identifier: Apache-2.0

// Package arch holds the shape of the house: who may import whom, that every
// package says what it is for, and that every file carries its licence. It has
// tests only.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/latchkey-nas/latchkey/"

// layers, lowest first: a package imports its own layer or lower ones only.
var layers = [][]string{
	{"internal/identity", "internal/fault", "internal/secret", "internal/release", "internal/journal", "internal/latency"},
	{"internal/idmap", "internal/access", "internal/audit", "internal/snapshot"},
	{"internal/accounts", "internal/etcfile", "internal/smbconf", "internal/krb5conf", "internal/sudoers", "internal/kerberos"},
	{"internal/directory", "internal/netlogon", "internal/oidc", "internal/store"},
	{"internal/resolve", "internal/login", "internal/session", "internal/mirror", "internal/publish", "internal/join"},
	{"proto/latchkey/v1"},
	{"internal/peer", "internal/grpcapi", "internal/shim", "internal/winbind", "internal/web"},
	{"internal/config"},
	{"internal/monitor", "internal/daemon"},
	{"cmd/latchkeyd", "cmd/latchkey", "cmd/latchkey-pam-check"},
}

// apart are packages that prove, measure or make the product: nothing of it
// imports them.
var apart = []string{"nss", "pam", "packaging", "internal/lab", "internal/e2e", "internal/bench", "internal/demo", "internal/arch", "internal/tools"}

// forTests are packages that only tests, and packages apart, import.
var forTests = []string{"internal/journal/journaltest", "internal/kerberos/krbtest", "internal/netlogon/ntlmtest", "internal/oidc/oidctest", "internal/resolve/memorytest", "internal/snapshot/forge"}

// forbidden imports would hurt most; each with its reason.
var forbidden = []struct{ from, to, why string }{
	{"internal/grpcapi", "internal/store", "doors translate, they do not remember"},
	{"internal/grpcapi", "internal/directory", "doors never go upstream"},
	{"internal/grpcapi", "internal/kerberos", "doors never go upstream"},
	{"internal/peer", "internal/store", "doors translate, they do not remember"},
	{"internal/winbind", "internal/store", "doors translate, they do not remember"},
	{"internal/winbind", "internal/directory", "doors never go upstream"},
	{"internal/winbind", "internal/kerberos", "doors never go upstream"},
	{"internal/winbind", "internal/netlogon", "doors never go upstream"},
	{"internal/monitor", "internal/directory", "root parses nothing from the network"},
	{"internal/monitor", "internal/kerberos", "root parses nothing from the network"},
	{"internal/monitor", "internal/mirror", "root does little"},
	{"internal/monitor", "internal/store", "root does not open the database"},
	{"internal/monitor", "google.golang.org/grpc", "root serves no door"},
	{"internal/identity", "internal/store", "words know no memory"},
}

// soleImporters of a dependency.
var soleImporters = map[string][]string{
	"go.etcd.io/bbolt":         {"internal/store"},
	"github.com/go-ldap/ldap/": {"internal/directory"},
	"github.com/jcmturner/":    {"internal/kerberos", "internal/directory"},
	"github.com/oiweiwei/":     {"internal/netlogon"},
}

type source struct {
	pkg, path string
	test      bool
	imports   []string
	doc       bool
	head      string
}

func tree(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if name == "build" || name == "testdata" || (strings.HasPrefix(name, ".") && path != root) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		s := source{pkg: filepath.Dir(rel), path: rel, test: strings.HasSuffix(name, "_test.go"), head: string(text[:min(len(text), 200)])}
		s.doc = file.Doc != nil && (strings.HasPrefix(file.Doc.Text(), "Package ") || strings.HasPrefix(file.Doc.Text(), "Command "))
		for _, i := range file.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			s.imports = append(s.imports, strings.TrimPrefix(p, module))
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d files under %s", len(all), root)
	}
	return all
}

func under(pkg, prefix string) bool { return pkg == prefix || strings.HasPrefix(pkg, prefix+"/") }

// among returns the package of a list that pkg is or lies below; "" for none.
func among(pkg string, list []string) string {
	if i := slices.IndexFunc(list, func(p string) bool { return under(pkg, p) }); i >= 0 {
		return list[i]
	}
	return ""
}

func layerOf(pkg string) int {
	return slices.IndexFunc(layers, func(l []string) bool { return among(pkg, l) != "" })
}

// packages returns the top package of every file: those that have a place in the
// house.
func packages(t *testing.T) []string {
	t.Helper()
	known := slices.Concat(append(slices.Clone(layers), apart)...)
	var all []string
	for _, s := range tree(t) {
		top := among(s.pkg, known)
		if top == "" {
			t.Errorf("%s has no place: name it in layers or apart, and in ARCHITECTURE.md", s.path)
			continue
		}
		all = append(all, top)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestArchitectureNamesEveryPackageOnce holds ARCHITECTURE.md's list of the
// house against the tree.
func TestArchitectureNamesEveryPackageOnce(t *testing.T) {
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, house, _ := strings.Cut(string(text), "Imports point down this list only")
	var named []string
	for line := range strings.Lines(house) {
		if strings.HasPrefix(line, "## ") {
			break
		}
		if entry, ok := strings.CutPrefix(line, "    "); ok {
			names, _, _ := strings.Cut(entry, "  ")
			for n := range strings.SplitSeq(names, ", ") {
				named = append(named, strings.TrimSpace(n))
			}
		}
	}
	slices.Sort(named)
	if want := packages(t); !slices.Equal(named, want) {
		t.Errorf("ARCHITECTURE.md names\n%s\nwant\n%s", strings.Join(named, "\n"), strings.Join(want, "\n"))
	}
}

func TestNothingOfTheProductImportsWhatStandsApart(t *testing.T) {
	for _, s := range tree(t) {
		if s.test || among(s.pkg, apart) != "" || among(s.pkg, forTests) != "" {
			continue
		}
		for _, to := range s.imports {
			if p := among(to, slices.Concat(apart, forTests)); p != "" {
				t.Errorf("%s imports %s, which is for tests", s.path, p)
			}
		}
	}
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range tree(t) {
		from := layerOf(s.pkg)
		if s.test || from < 0 {
			continue // what stands apart may know everything
		}
		for _, to := range s.imports {
			if l := layerOf(to); l > from {
				t.Errorf("%s imports %s, which stands above it", s.path, to)
			}
		}
	}
}

func TestForbiddenImports(t *testing.T) {
	for _, s := range tree(t) {
		if s.test {
			continue
		}
		for _, f := range forbidden {
			if under(s.pkg, f.from) && slices.ContainsFunc(s.imports, func(i string) bool { return under(i, f.to) }) {
				t.Errorf("%s imports %s: %s", s.path, f.to, f.why)
			}
		}
		for dep, allowed := range soleImporters {
			uses := slices.ContainsFunc(s.imports, func(i string) bool { return strings.HasPrefix(i, dep) })
			if uses && !slices.ContainsFunc(allowed, func(p string) bool { return under(s.pkg, p) }) {
				t.Errorf("%s imports %s, which only %v may", s.path, dep, allowed)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	docs := map[string]int{}
	for _, s := range tree(t) {
		if strings.HasSuffix(s.path, ".pb.go") {
			docs[s.pkg] = 1
			continue
		}
		if _, ok := docs[s.pkg]; !ok {
			docs[s.pkg] = 0
		}
		if s.doc {
			docs[s.pkg]++
		}
	}
	for pkg, n := range docs {
		if n != 1 {
			t.Errorf("%s has %d package comments, want 1", pkg, n)
		}
	}
}

func TestEveryFileCarriesItsLicence(t *testing.T) {
	for _, s := range tree(t) {
		if !strings.HasPrefix(s.head, "// SPDX-License-Identifier: Apache-2.0\n") {
			t.Errorf("%s does not begin with the SPDX line", s.path)
		}
	}
}
