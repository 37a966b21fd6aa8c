// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// TestWellKnownGidsNeverMove pins what boxes have on their disks.
func TestWellKnownGidsNeverMove(t *testing.T) {
	domain := identity.MustParseSID("S-1-5-21-1-2-3")
	for _, tc := range []struct {
		method Method
		sid    string
		want   uint32
	}{
		{RID, "S-1-5-32-544", 200_000_000}, {RID, "S-1-5-32-545", 199_999_999}, {RID, "S-1-5-32-546", 199_999_998},
		{RID, "S-1-1-0", 199_999_991}, {RID, "S-1-5-2", 199_999_990}, {RID, "S-1-5-7", 199_999_988}, {RID, "S-1-5-11", 199_999_986},
		{RID, "S-1-5-32-568", 199_999_975},
		{AutoRID, "S-1-5-32-544", 100_099_999}, {SSSD, "S-1-5-32-545", 2_000_199_998},
	} {
		m, err := New(Config{Method: tc.method}, domain)
		if err != nil {
			t.Fatal(err)
		}
		var got []uint32
		for id := range m.WellKnownCandidates(identity.MustParseSID(tc.sid)) {
			got = append(got, id)
		}
		if len(got) < 1000 || got[0] != tc.want {
			t.Errorf("%s by %s: %d candidates, the first %v, want %d", tc.sid, tc.method, len(got), got[:min(1, len(got))], tc.want)
		}
	}
	if n := len(WellKnowns()); n != 26 {
		t.Errorf("%d well-known SIDs: add a line above for each new one", n)
	}
	m, _ := New(Config{}, domain)
	for id := range m.WellKnownCandidates(domain.WithRID(513)) {
		t.Fatalf("a domain group may have %d", id)
	}
}

func TestWellKnownInATinyRange(t *testing.T) {
	m, err := New(Config{Base: 5000, Size: 10, Slice: 10}, identity.MustParseSID("S-1-5-21-1-2-3"))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range WellKnowns() {
		for id := range m.WellKnownCandidates(w.SID) {
			if !m.Contains(id) {
				t.Errorf("%s may have %d", w.Name, id)
			}
		}
	}
}

func TestUnixSIDs(t *testing.T) {
	for _, tc := range []struct {
		sid  string
		id   uint32
		kind identity.Kind
		ok   bool
	}{
		{"S-1-22-1-1000", 1000, identity.KindUser, true}, {"S-1-22-2-0", 0, identity.KindGroup, true},
		{"S-1-22-1", 0, 0, false}, {"S-1-22-3-7", 0, 0, false}, {"S-1-22-1-5-6", 0, 0, false}, {"S-1-5-32-544", 0, 0, false},
	} {
		if id, kind, ok := Unix(identity.MustParseSID(tc.sid)); id != tc.id || kind != tc.kind || ok != tc.ok {
			t.Errorf("%s: %d, %v, %v", tc.sid, id, kind, ok)
		}
	}
}
