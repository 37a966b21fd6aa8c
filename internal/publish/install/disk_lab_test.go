// SPDX-License-Identifier: Apache-2.0

//go:build lab

package install

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// A full disk refuses the new snapshot and leaves the old one as it was.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k,mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	i := installer(t, dir)
	install(t, i, "ana")
	r := reader(t, dir)
	var many []string
	for n := range 100 {
		many = append(many, fmt.Sprintf("user%d", n))
	}
	for range 2 {
		err := i.Install(context.Background(), sealed(t, many...))
		if !fault.Is(err, fault.Exhausted) || fault.Remedy(err) == "" {
			t.Errorf("Install = %v, want exhausted, with a remedy", err)
		}
		if r.Superseded() || !knows(reader(t, dir), "ana") || !slices.Equal(list(t, dir), []string{Name}) {
			t.Errorf("superseded %v, left %q", r.Superseded(), list(t, dir))
		}
	}
	install(t, i, "bob")
	if !r.Superseded() || !knows(reader(t, dir), "bob") {
		t.Error("a snapshot that has room is not published afterwards")
	}
}
