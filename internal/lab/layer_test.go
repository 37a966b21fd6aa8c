// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"path/filepath"
	"testing"
)

// Whatever decides what is in a layer is in its key; the order of packages is not.
func TestLayerKey(t *testing.T) {
	one := LayerSpec{Name: "web", Packages: []string{"a", "b"}, Lock: []byte("1")}
	same := LayerSpec{Name: "web", Packages: []string{"b", "a"}, Lock: []byte("1")}
	if one.Key("base") != same.Key("base") {
		t.Error("the order of the packages counts")
	}
	for name, other := range map[string]string{
		"another base":    one.Key("base2"),
		"more packages":   LayerSpec{Name: "web", Packages: []string{"a", "b", "c"}, Lock: []byte("1")}.Key("base"),
		"another lock":    LayerSpec{Name: "web", Packages: []string{"a", "b"}, Lock: []byte("2")}.Key("base"),
		"another name":    LayerSpec{Name: "x", Packages: []string{"a", "b"}, Lock: []byte("1")}.Key("base"),
		"another package": LayerSpec{Name: "web", Packages: []string{"a", "c"}, Lock: []byte("1")}.Key("base"),
	} {
		if other == one.Key("base") {
			t.Errorf("%s gives the same key", name)
		}
	}
}

// Of this machine's npm settings, a layer gets how to reach the registry and
// nothing else.
func TestNpmConfig(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.WriteFile(filepath.Join(home, ".npmrc"), []byte("registry=https://r.test/\n//r.test/:_authToken=x\nprefix=/opt\nhttps-proxy=http://p.test:3128\nfund=false"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "registry=https://r.test/\n//r.test/:_authToken=x\nhttps-proxy=http://p.test:3128\n"
	got := string(npmConfig())
	if len(got) < len(want) || got[len(got)-len(want):] != want {
		t.Errorf("got %q, want at its end %q", got, want)
	}
}
