// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/audit"
)

func lines(t *testing.T, path string) []audit.Event {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []audit.Event
	for line := range strings.Lines(string(text)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

func TestEveryEventIsOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	r := audit.Open(path, slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 50 {
				r.Record(audit.Event{Action: audit.SignIn, Outcome: audit.Refused, Asked: "a\n\"b\"\xff" + strings.Repeat("x", 1000)})
			}
		})
	}
	all.Wait()
	r.Close()
	r.Record(audit.Event{}) // after the end: nothing
	got := lines(t, path)
	if len(got) != 1000 {
		t.Fatalf("%d lines, want 1000", len(got))
	}
	seen := map[string]bool{}
	for _, e := range got {
		if e.Time.IsZero() || len(e.ID) != 16 || seen[e.ID] {
			t.Fatalf("event %+v: want a time and an id of its own", e)
		}
		seen[e.ID] = true
		if len(e.Asked) > 260 {
			t.Fatalf("asked has %d bytes, want it cut", len(e.Asked))
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: want 0600", info.Mode(), err)
	}
}

func TestRotationLosesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	var log bytes.Buffer
	r := audit.Open(path, slog.New(slog.NewTextHandler(&log, nil)))
	for i := range 10 {
		r.Record(audit.Event{Action: audit.Account, Outcome: audit.Allowed})
		if i == 4 {
			for {
				if _, err := os.Stat(path); err == nil {
					break
				}
			}
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.Close()
	got := len(lines(t, path+".1"))
	if _, err := os.Stat(path); err == nil {
		got += len(lines(t, path))
	}
	if got != 10 || log.Len() != 0 {
		t.Errorf("%d events in both files, want 10; log: %s", got, &log)
	}
}

func TestWhatCannotBeWrittenIsLogged(t *testing.T) {
	var log bytes.Buffer
	r := audit.Open(filepath.Join(t.TempDir(), "missing", "audit.jsonl"), slog.New(slog.NewJSONHandler(&log, nil)))
	r.Record(audit.Event{ID: "0123456789abcdef", Action: audit.SignIn, Outcome: audit.Failed})
	r.Close()
	if !strings.Contains(log.String(), "0123456789abcdef") {
		t.Errorf("the log does not have the event: %s", &log)
	}
}
