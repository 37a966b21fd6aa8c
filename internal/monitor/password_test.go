// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/monitor/pamcheck"
)

func checker(t *testing.T, script string) *Monitor {
	t.Helper()
	program := filepath.Join(t.TempDir(), "latchkeyd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Monitor{log: slog.New(slog.DiscardHandler), program: program, checks: make(chan struct{}, maxChecks)}
}

// The process gets the socket as descriptor 3, "pam-check" as its only argument
// and nothing of our environment; what it answers reaches the other end.
func TestCheckPassword(t *testing.T) {
	t.Setenv("LATCHKEY_SECRET", "x")
	m := checker(t, `[ "$*" = pam-check ] && [ -z "$LATCHKEY_SECRET" ] && [ "$(env | grep -c LATCHKEY)" = 0 ] && dd bs=65536 count=1 <&3 >/dev/null 2>&1 && printf '\007\000\000\000' >&3`)
	ours, theirs, err := pamcheck.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if err := m.checkPassword(theirs); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	if r, err := pamcheck.Ask(t.Context(), ours, pamcheck.Request{Name: "ada"}); err != nil || r.Code != pamcheck.AuthErr {
		t.Errorf("got %+v, %v", r, err)
	}
}

// A file that is no packet socket is refused before anything is started.
func TestCheckPasswordWantsASocket(t *testing.T) {
	m := checker(t, "exit 0")
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.checkPassword(f); !fault.Is(err, fault.Malformed) || len(m.checks) != 0 {
		t.Errorf("/dev/null: %v", err)
	}
}

func TestCheckPasswordIsLimited(t *testing.T) {
	m := checker(t, "exec cat <&3 >/dev/null")
	start := func() (*net.UnixConn, error) {
		ours, theirs, err := pamcheck.Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		return ours, m.checkPassword(theirs)
	}
	var held []*net.UnixConn
	for range maxChecks {
		c, err := start()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	c, err := start()
	_ = c.Close()
	if !fault.Is(err, fault.Exhausted) {
		t.Errorf("one more: %v", err)
	}
	for _, c := range held {
		_ = c.Close()
	}
	for len(m.checks) > 0 { // ends with the processes
		m.checks <- struct{}{}
		<-m.checks
	}
}
