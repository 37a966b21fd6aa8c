// SPDX-License-Identifier: Apache-2.0

//go:build lab

package store

import (
	"os"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// TestLabDiskFull fills a disk of a few megabytes to its end: what was written
// stays, lookups go on, the error says what to do, and with room again the
// store goes on.
func TestLabDiskFull(t *testing.T) {
	l, err := lab.Up(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	box, err := l.Box(t.Context(), "nas1", lab.BoxOptions{Binds: []lab.Bind{{Host: self, Inside: "/opt/store.test"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.MountDisk(t.Context(), "/mnt", "6m"); err != nil {
		t.Fatal(err)
	}
	fill := func() string {
		c := box.Command("/opt/store.test", "-test.run=^TestHelper$", "--", "fill-disk", "/mnt/latchkey.db")
		c.Env = []string{"STORE_TEST_HELPER=1"}
		out, err := c.Output(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := fill(); out != "full" {
		t.Fatalf("the helper says %q", out)
	}
	if out, err := box.Output(t.Context(), "mount", "-o", "remount,size=24m", "/mnt"); err != nil {
		t.Fatal(out, err)
	}
	c := box.Command("/opt/store.test", "-test.run=^TestHelper$", "--", "more", "/mnt/latchkey.db")
	c.Env = []string{"STORE_TEST_HELPER=1"}
	if out, err := c.Output(t.Context()); err != nil || out != "written" {
		t.Errorf("with room again: %q, %v", out, err)
	}
}
