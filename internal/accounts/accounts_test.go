// SPDX-License-Identifier: Apache-2.0

package accounts

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
# a comment
nasadmin:x:1000:1000::/home/nasadmin:/bin/sh

+@netgroup
-baduser:x:1:1
  indented:x:1001:1001::/:/bin/sh
noid:x:
words:x:abc:1
negative:x:-2:1
toolarge:x:4294967296:1
nasadmin:x:4000:1000:second line, not used:/:/bin/sh
Žofie:x:1002:1002::/home/z:/bin/sh`

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	tmp := filepath.Join(dir, name+".tmp")
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "passwd", passwd)
	write(t, dir, "group", "root:x:0:\nWheel:x:10:nasadmin\nlast:x:12:a,b,c")
	set, err := Source{Dir: dir}.Read()
	if err != nil {
		t.Fatal(err)
	}
	wantUsers := map[string]uint32{"root": 0, "nasadmin": 1000, "indented": 1001, "Žofie": 1002}
	wantGroups := map[string]uint32{"root": 0, "Wheel": 10, "last": 12}
	if !maps.Equal(set.Users, wantUsers) || !maps.Equal(set.Groups, wantGroups) {
		t.Errorf("got %v and %v, want %v and %v", set.Users, set.Groups, wantUsers, wantGroups)
	}
	if names := slices.Sorted(maps.Keys(set.Names())); strings.Join(names, " ") != "indented last nasadmin root wheel žofie" {
		t.Errorf("names %v", names)
	}
	if ids := slices.Sorted(maps.Keys(set.IDs())); !slices.Equal(ids, []uint32{0, 10, 12, 1000, 1001, 1002}) {
		t.Errorf("ids %v", ids)
	}
}

func TestReadWithoutFiles(t *testing.T) {
	set, err := Source{Dir: t.TempDir()}.Read()
	if err != nil || len(set.Users)+len(set.Groups) != 0 {
		t.Errorf("got %v, %v, want an empty set", set, err)
	}
}

func TestReadFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "passwd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := (Source{Dir: dir}).Read(); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v, want an internal fault", err)
	}
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "passwd", "root:x:0:0::/:\n")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sets := make(chan Set)
	done := make(chan error, 1)
	go func() {
		done <- Source{Dir: dir, Poll: 20 * time.Millisecond}.Watch(ctx, func(s Set) { sets <- s })
	}()
	next := func(want string) {
		t.Helper()
		select {
		case s := <-sets:
			if got := strings.Join(slices.Sorted(maps.Keys(s.Names())), " "); got != want {
				t.Fatalf("told of %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("never told of %q", want)
		}
	}
	next("root")
	write(t, dir, "group", "staff:x:50:\n") // a file that was not there
	next("root staff")
	write(t, dir, "passwd", "root:x:0:0::/:\nana:x:1000:1000::/:\n") // replaced
	next("ana root staff")
	f, err := os.OpenFile(filepath.Join(dir, "group"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("bob:x:1001:\n"); err != nil { // written in place
		t.Fatal(err)
	}
	f.Close()
	next("ana bob root staff")
	if err := os.Remove(filepath.Join(dir, "group")); err != nil {
		t.Fatal(err)
	}
	next("ana root")
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("Watch returned %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(passwd)
	f.Add("a:x:1\nb::2:\x00\n:x:3:")
	f.Fuzz(func(t *testing.T, s string) {
		names, err := parse(strings.NewReader(s))
		if err != nil {
			return // a line longer than any that is read
		}
		var lines strings.Builder
		for name, id := range names {
			if name == "" || strings.ContainsAny(name, ":\n") {
				t.Fatalf("name %q, id %d", name, id)
			}
			lines.WriteString(name + ":x:" + strconv.FormatUint(uint64(id), 10) + ":\n")
		}
		if again, err := parse(strings.NewReader(lines.String())); err != nil || !maps.Equal(again, names) {
			t.Fatalf("%v prints back as %v, %v", names, again, err)
		}
	})
}
