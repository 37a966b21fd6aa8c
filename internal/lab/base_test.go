// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestInterruptedBuildDoesNotCount(t *testing.T) {
	t.Setenv("LATCHKEY_LAB_CACHE", filepath.Join(t.TempDir(), "cache"))
	broken := errors.New("the power went")
	begin := func(dir string) error { return os.WriteFile(filepath.Join(dir, "half"), nil, 0o644) }
	if _, err := cached(t.Context(), "base-x", nil, func(dir string) error { begin(dir); return broken }); !errors.Is(err, broken) {
		t.Fatalf("got %v, want %v", err, broken)
	}
	// As if the process had been killed: what it had built stays behind.
	left := filepath.Join(CacheDir(), ".base-x.growing")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	begin(left)
	dir, err := cached(t.Context(), "base-x", nil, func(dir string) error {
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			t.Errorf("building goes on from %v", entries)
		}
		return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 || entries[0].Name() != "whole" {
		t.Errorf("the base holds %v, want whole", entries)
	}
}

func TestOneBuildsAndTheOthersWait(t *testing.T) {
	t.Setenv("LATCHKEY_LAB_CACHE", t.TempDir())
	var built atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := cached(t.Context(), "base-y", nil, func(string) error { built.Add(1); return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := built.Load(); got != 1 {
		t.Errorf("built %d times, want once", got)
	}
	lock, err := tryLockFile(filepath.Join(CacheDir(), ".base-z.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cached(ctx, "base-z", nil, func(string) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for another builder: got %v, want that it was cancelled", err)
	}
}

func TestBaseKeySaysWhatIsInIt(t *testing.T) {
	usual := BaseSpec{}
	if usual.Key() != (BaseSpec{Suite: "bookworm"}).Key() {
		t.Error("the usual base is not bookworm")
	}
	for name, other := range map[string]BaseSpec{"suite": {Suite: "trixie"}, "packages": {Packages: []string{"nginx-light"}}} {
		if other.Key() == usual.Key() {
			t.Errorf("another %s has the same key", name)
		}
	}
}

func TestPruneTakesWhatIsOld(t *testing.T) {
	t.Setenv("LATCHKEY_LAB_CACHE", t.TempDir())
	t.Setenv("LATCHKEY_LAB_RUN", t.TempDir())
	for _, key := range []string{"base-old", "domain-new"} {
		if _, err := cached(t.Context(), key, nil, func(string) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(growing("base-old"), 0o755); err != nil {
		t.Fatal(err)
	}
	lastMonth := time.Now().AddDate(0, -1, 0)
	if err := os.Chtimes(lockPath("base-old"), lastMonth, lastMonth); err != nil {
		t.Fatal(err)
	}
	removed, err := Prune(t.Context(), 14*24*time.Hour)
	if err != nil || len(removed) != 1 || removed[0] != "base-old" {
		t.Errorf("removed %v, %v, want base-old", removed, err)
	}
	if _, err := os.Stat(growing("base-old")); err == nil {
		t.Error("the rest of an interrupted build is there")
	}
	if !used("domain-new") || used("base-old") {
		t.Error("the wrong one was removed")
	}
	// A lab that runs stands on the cache.
	dir := filepath.Join(RunDir(), "some")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := tryLockFile(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if removed, err := Prune(t.Context(), 0); err == nil || len(removed) != 0 {
		t.Errorf("while a lab runs: removed %v, %v", removed, err)
	}
}

func TestCheckSaysWhatToDo(t *testing.T) {
	for _, need := range Check() {
		if need.What == "" || need.Err != nil && need.Fix == "" {
			t.Errorf("got %+v, want what it is and what to do", need)
		}
	}
}
