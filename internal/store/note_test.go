// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/store"
)

func TestNotesLastAndStayApart(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	s, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.Note(ctx, "a", "x"); b != nil || err != nil {
		t.Fatalf("an empty store has the note %q, %v", b, err)
	}
	for topic, notes := range map[string]map[string][]byte{
		"a": {"x": []byte("1"), "y": []byte("2")}, "ab": {"x": []byte("3")},
	} {
		if err := s.SetNotes(ctx, topic, notes); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetNotes(ctx, "a", map[string][]byte{"x": nil, "never": nil}); err != nil {
		t.Fatal(err)
	}
	if err := s.Rebuild(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(ctx, path, store.Options{FullCheck: true}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := map[string]string{}
	if err := s.Notes(ctx, "a", func(k string, v []byte) bool { got[k] = string(v); return true }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got["y"] != "2" {
		t.Errorf("notes of a = %v, want y only", got)
	}
	if b, err := s.Note(ctx, "ab", "x"); string(b) != "3" || err != nil {
		t.Errorf("note = %q, %v, want 3", b, err)
	}
	for _, topic := range []string{"", "a\x00b"} {
		if err := s.SetNotes(ctx, topic, map[string][]byte{"k": []byte("v")}); !fault.Is(err, fault.Internal) {
			t.Errorf("topic %q: %v, want it refused", topic, err)
		}
	}
}
