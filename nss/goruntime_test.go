// SPDX-License-Identifier: Apache-2.0

package nss

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Why the module is C. A child of fork has one thread, the one that forked. A Go
// runtime that came in with a module has several: the garbage collector and the
// scheduler wait for those that are gone, for ever. The host program is not asked
// whether it will fork, and sshd, cron and every shell do.
//
// The experiment: a module in Go that does nothing but allocate, and ours. A
// program loads one of them, looks up 500 times, and forks; each child looks up
// 500 times. All children of ours end. Of the Go module's, the first that starts
// a collection hangs (10 of 10 with Go 1.26 on two cores). What hides it,
// GOMAXPROCS=1 or GOGC=off, cannot be asked of other people's programs. The Go
// project does not support it (golang/go issues 15538 and 16855).
//
// Should this test ever fail because no child hangs, the question may be opened
// again.
func TestGoRuntimeDoesNotSurviveFork(t *testing.T) {
	dir := t.TempDir()
	forked := filepath.Join(dir, "forked")
	run(t, nil, "gcc", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-o", forked, "testdata/forked.c")
	module := filepath.Join(dir, "libnss_goruntime.so.2")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-o", module, "./testdata/goruntime")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	if got, want := run(t, nil, forked, shipped(t), "latchkey", "20", "0"), "20 ended, 0 hung\n"; got != want {
		t.Errorf("the C module: %s, want %s", got, want)
	}
	children, seconds := 2, 1
	if nightly() {
		children, seconds = 10, 10
	}
	got := run(t, nil, forked, module, "goruntime", fmt.Sprint(children), fmt.Sprint(seconds))
	var ended, hung int
	if _, err := fmt.Sscanf(got, "%d ended, %d hung", &ended, &hung); err != nil || ended+hung != children {
		t.Fatalf("it said %q: %v", got, err)
	}
	t.Logf("a module in Go: %d children ended, %d hung", ended, hung)
	if hung == 0 {
		t.Error("no child of a Go runtime hung: read the comment above")
	}
}
