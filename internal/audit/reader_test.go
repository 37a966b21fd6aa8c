// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// event is line n, an hour after the one before.
func event(n int) string {
	outcome := "allowed"
	if n%2 == 1 {
		outcome = "refused"
	}
	return fmt.Sprintf(`{"time":%q,"id":"%d","action":"sign-in","outcome":%q,"name":"user%d","sent":true,"ms":1}`+"\n",
		day.Add(time.Duration(n)*time.Hour).Format(time.RFC3339), n, outcome, n%3)
}

func events(from, to int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		b.WriteString(event(n))
	}
	return b.String()
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if strings.HasSuffix(path, ".gz") {
		var b strings.Builder
		z := gzip.NewWriter(&b)
		if _, err := z.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		text = b.String()
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func ids(t *testing.T, path string, want audit.Reading) []string {
	t.Helper()
	var got []string
	if err := audit.Read(t.Context(), path, want, func(all []audit.Event) error {
		if len(all) > 100 {
			t.Errorf("%d events at once", len(all))
		}
		for _, e := range all {
			got = append(got, e.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func numbers(from, to, step int) []string {
	var all []string
	for n := from; n < to; n += step {
		all = append(all, fmt.Sprint(n))
	}
	return all
}

func TestReadsTheFilesInTheirOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	put(t, path+".12.gz", events(0, 10))
	put(t, path+".2.gz", events(10, 250))
	put(t, path+".1", events(250, 260)+"half a li")
	put(t, path, "no JSON\n"+`{"some":"thing"}`+"\n"+strings.Repeat("x", 2<<20)+"\n"+events(260, 265)+event(265)[:20])
	put(t, path+".3", "")
	put(t, path+".4.gz", "")
	if err := os.WriteFile(path+".5.gz", []byte("no gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, path, audit.Reading{}); !slices.Equal(got, numbers(0, 265, 1)) {
		t.Errorf("got %v", got)
	}
	if got := ids(t, path, audit.Reading{Last: 7}); !slices.Equal(got, numbers(258, 265, 1)) {
		t.Errorf("the last 7: %v", got)
	}
	if got := ids(t, path, audit.Reading{Since: day.Add(255 * time.Hour), Outcome: audit.Refused}); !slices.Equal(got, numbers(255, 265, 2)) {
		t.Errorf("refused since: %v", got)
	}
	if got := ids(t, path, audit.Reading{Last: 3, Match: func(e *audit.Event) bool { return e.Name == "user0" }}); !slices.Equal(got, []string{"258", "261", "264"}) {
		t.Errorf("of user0: %v", got)
	}
	boom := errors.New("boom")
	if err := audit.Read(t.Context(), path, audit.Reading{}, func([]audit.Event) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("fn's error came back as %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := audit.Read(over, path, audit.Reading{}, func([]audit.Event) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if err := audit.Read(t.Context(), filepath.Join(t.TempDir(), "none"), audit.Reading{}, func([]audit.Event) error { return nil }); !fault.Is(err, fault.NotFound) {
		t.Errorf("no file: %v", err)
	}
}

// TestFollowSurvivesRotation: what the recorder writes while the file is moved
// away under it comes once, in its order.
func TestFollowSurvivesRotation(t *testing.T) {
	for _, early := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 1000)
		done := make(chan error, 1)
		last := 1
		if early {
			last = 0
		}
		start := func() {
			go func() {
				done <- audit.Read(ctx, path, audit.Reading{Follow: true, Last: last}, func(all []audit.Event) error {
					for _, e := range all {
						got <- e.ID
					}
					return nil
				})
			}()
		}
		if early { // there is no file yet
			start()
		}
		r := audit.Open(path, slog.New(slog.DiscardHandler))
		const rounds, each = 3, 20
		next := func() string {
			select {
			case id := <-got:
				return id
			case <-time.After(20 * time.Second):
				t.Fatal("nothing comes")
			}
			return ""
		}
		for round := range rounds {
			for n := range each {
				r.Record(audit.Event{ID: fmt.Sprint(round*each + n), Action: audit.SignIn, Outcome: audit.Allowed})
			}
			switch {
			case round == 0 && !early:
				for { // all of it is on the disk; Last leaves one of it
					if text, err := os.ReadFile(path); err == nil && strings.Count(string(text), "\n") == each {
						break
					}
				}
				start()
				if id := next(); id != fmt.Sprint(each-1) {
					t.Errorf("first came %s", id)
				}
			default:
				for n := range each {
					if id := next(); id != fmt.Sprint(round*each+n) {
						t.Fatalf("got %s, want %d", id, round*each+n)
					}
				}
			}
			if err := os.Rename(path, fmt.Sprintf("%s.%d", path, rounds-round)); err != nil {
				t.Fatal(err)
			}
		}
		r.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("at the end: %v", err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(events(0, 3)))
	f.Add([]byte("{}\n\n[\n\"x\"\n{\"time\":1}\n" + event(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "a")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := audit.Read(t.Context(), path, audit.Reading{}, func(all []audit.Event) error { n += len(all); return nil }); err != nil {
			t.Fatal(err)
		}
		if n > strings.Count(string(b), "\n") {
			t.Errorf("%d events of %d lines", n, strings.Count(string(b), "\n"))
		}
	})
}
