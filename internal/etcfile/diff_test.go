// SPDX-License-Identifier: Apache-2.0

package etcfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiffIsAPatch(t *testing.T) {
	patch, err := exec.LookPath("patch")
	for _, c := range []Change{
		{Path: "f", Before: nil, After: []byte("a\nb\n")}, {Path: "f", Before: []byte("a\nb\n"), After: nil}, {Path: "f", Before: []byte("1\n2\n3\n4\n5\n6\n7\n"), After: []byte("1\n2\n3\n4\nx\n6\n7\n")},
		{Path: "f", Before: []byte("1\n2"), After: []byte("0\n1\n2")}, {Path: "f", Before: []byte("1\n2"), After: []byte("1\n2\n")}, {Path: "f", Before: []byte("1\n2\n3\n4\n5\n"), After: []byte("1\n2\n3\n4\n5\n6")},
	} {
		d := c.Diff()
		if !strings.HasPrefix(d, "--- ") || !strings.Contains(d, "\n@@ -") {
			t.Errorf("Diff = %q", d)
		}
		if err != nil || c.Before == nil || c.After == nil {
			continue
		}
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, c.Before, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(patch, "--quiet", file)
		cmd.Stdin = strings.NewReader(d)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("patch: %v: %s\n%s", err, out, d)
		}
		if got, _ := os.ReadFile(file); string(got) != string(c.After) {
			t.Errorf("patched to %q, want %q\n%s", got, c.After, d)
		}
	}
	if d := (Change{Path: "f", Before: []byte("a"), After: []byte("a")}).Diff(); d != "" {
		t.Errorf("a change that changes nothing prints %q", d)
	}
}

func TestDiffOfNewAndRemovedFiles(t *testing.T) {
	if got, want := (Change{Path: "/f", Before: nil, After: []byte("a\nb\n")}).Diff(), "--- /dev/null\n+++ /f\n@@ -0,0 +1,2 @@\n+a\n+b\n"; got != want {
		t.Errorf("Diff = %q, want %q", got, want)
	}
	if got, want := (Change{Path: "/f", Before: []byte("a"), After: nil}).Diff(), "--- /f\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-a\n\\ No newline at end of file\n"; got != want {
		t.Errorf("Diff = %q, want %q", got, want)
	}
}
