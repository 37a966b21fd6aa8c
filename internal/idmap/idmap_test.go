// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

const contoso = "S-1-5-21-2153326666-2176343378-3404031434"

func mustMap(t testing.TB, cfg Config, domain string) *Map {
	t.Helper()
	m, err := New(cfg, identity.MustParseSID(domain))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNaturalVectors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cfg    Config
		domain string
		rid    uint32
		want   uint32 // 0: none
	}{
		{"rid, TrueNAS' range", Config{}, contoso, 1105, 100001106},
		{"rid, Domain Users", Config{}, contoso, 513, 100000514},
		{"rid, last of the range", Config{}, contoso, 99_999_999, 200000000},
		{"rid, past the range", Config{}, contoso, 100_000_000, 0},
		{"rid, largest RID", Config{}, contoso, 1<<32 - 1, 0},
		{"rid, winbind's usual range", Config{Method: RID, Base: 2000000, Size: 1000000}, contoso, 1105, 2001105},
		{"rid, refused id", Config{Method: RID, Base: 10000, Size: 100000}, contoso, 55534, 0},

		// From libsss_idmap 0.5.1.
		{"sssd", Config{Method: SSSD}, contoso, 500, 770800500},
		{"sssd, end of the first slice", Config{Method: SSSD}, contoso, 199999, 770999999},
		{"sssd, second slice", Config{Method: SSSD}, contoso, 200000, 504400000},
		{"sssd, second slice", Config{Method: SSSD}, contoso, 399999, 504599999},
		{"sssd, third slice", Config{Method: SSSD}, contoso, 400000, 324200000},
		{"sssd, eleventh slice", Config{Method: SSSD}, contoso, 2199999, 212599999},
		{"sssd, made on demand", Config{Method: SSSD}, contoso, 2200000, 443800000},
		{"sssd, made on demand", Config{Method: SSSD}, contoso, 5000000, 1887200000},
		{"sssd, made on demand", Config{Method: SSSD}, contoso, 1000000000, 54200000},
		{"sssd, short SID", Config{Method: SSSD}, "S-1-5-21-1-2-3", 500, 686200500},
		{"sssd, short SID", Config{Method: SSSD}, "S-1-5-21-1-2-3", 200500, 832600500},
		{"sssd, live", Config{Method: SSSD}, "S-1-5-21-1451377016-2082880872-3071880959", 1414, 764801414},
		{"sssd, nine slices", Config{Method: SSSD, Base: 100000, Size: 900000, Slice: 100000}, "S-1-5-21-1-2-3", 500, 600500},

		{"autorid, first range", Config{Method: AutoRID}, contoso, 1105, 101105},
		{"autorid, RID past the range goes into the next", Config{Method: AutoRID}, contoso, 101105, 201105},
		{"autorid, domain in range 1", Config{Method: AutoRID, Base: 1000000, Size: 9000000, Slice: 1000000, First: 1}, contoso, 1105, 2001105},
		{"autorid, past the last range", Config{Method: AutoRID, Base: 100000, Size: 200000}, contoso, 200000, 0},
	} {
		m := mustMap(t, tc.cfg, tc.domain)
		sid := identity.MustParseSID(tc.domain).WithRID(tc.rid)
		got, ok := m.Natural(sid)
		if got != tc.want || ok != (tc.want != 0) {
			t.Errorf("%s: RID %d gives %d, %v, want %d", tc.name, tc.rid, got, ok, tc.want)
		}
	}
}

func TestSSSDSlices(t *testing.T) {
	for _, tc := range []struct {
		domain string
		run    uint32
		want   uint32
	}{
		{contoso, 0, 3853}, {contoso, 1, 2521}, {"S-1-5-21-1-2-3", 0, 3430},
		{"S-1-5-21-1451377016-2082880872-3071880959", 0, 3823},
	} {
		if got := mustMap(t, Config{Method: SSSD}, tc.domain).sssdSlice(tc.run); got != tc.want {
			t.Errorf("%s run %d: slice %d, want %d", tc.domain, tc.run, got, tc.want)
		}
	}
}

func TestSIDsOfOtherDomainsHaveNoID(t *testing.T) {
	for _, method := range []Method{RID, SSSD, AutoRID} {
		m := mustMap(t, Config{Method: method}, contoso)
		for _, sid := range []string{"S-1-5-32-544", "S-1-1-0", "S-1-5-21-1-2-3-1105", contoso} {
			s := identity.MustParseSID(sid)
			if id, ok := m.Natural(s); ok {
				t.Errorf("%s: %s got %d", method, sid, id)
			}
			for id := range m.Candidates(s) {
				t.Fatalf("%s: %s may have %d", method, sid, id)
			}
		}
		if _, ok := m.Natural(identity.SID{}); ok {
			t.Errorf("%s: the zero SID got an id", method)
		}
	}
}

func TestRefusedIDs(t *testing.T) {
	for id, want := range map[uint32]bool{
		0: true, 1: true, 999: true, 1000: false, 61183: false, 61184: true, 65000: true, 65519: true, 65520: false,
		65533: false, 65534: true, 65535: true, 65536: false, 1<<32 - 2: false, 1<<32 - 1: true,
	} {
		if got := Refused(id); got != want {
			t.Errorf("Refused(%d) = %v, want %v", id, got, want)
		}
	}
}

func TestConfigRefused(t *testing.T) {
	domain := identity.MustParseSID(contoso)
	for name, tc := range map[string]struct {
		cfg    Config
		domain identity.SID
	}{
		"method":          {Config{Method: "hash"}, domain},
		"no domain":       {Config{}, identity.SID{}},
		"system ids":      {Config{Base: 500}, domain},
		"past the end":    {Config{Base: 4_000_000_000, Size: 294_967_296}, domain},
		"far past":        {Config{Base: 4_000_000_000, Size: 4_000_000_000}, domain},
		"slice too large": {Config{Size: 10000, Slice: 10001}, domain},
	} {
		if _, err := New(tc.cfg, tc.domain); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v, want a malformed config", name, err)
		}
	}
	if _, err := New(Config{Base: 4_000_000_000, Size: 294_967_295}, domain); err != nil {
		t.Errorf("a range up to 2^32-2: %v", err)
	}
}

func TestCandidatesAreTheNextSlices(t *testing.T) {
	sid := identity.MustParseSID(contoso).WithRID(1105)
	for _, tc := range []struct {
		cfg  Config
		want []uint32 // the first three
		n    int
	}{
		{Config{}, []uint32{100001106, 101001106, 102001106}, 100},
		{Config{Method: SSSD}, []uint32{770801105, 771001105, 771201105}, 10000},
		{Config{Method: AutoRID, Base: 100000, Size: 300000}, []uint32{101105, 201105, 301105}, 3},
		{Config{Method: RID, Base: 10000, Size: 90000, Slice: 10000}, []uint32{11105, 21105, 31105}, 9},
	} {
		got := slices.Collect(mustMap(t, tc.cfg, contoso).Candidates(sid))
		if len(got) != tc.n || !slices.Equal(got[:3], tc.want) {
			t.Errorf("%+v: %d candidates %v, want %d beginning with %v", tc.cfg, len(got), got[:min(3, len(got))], tc.n, tc.want)
		}
	}
	// A refused natural id is passed over, and so are refused ids further on.
	m := mustMap(t, Config{Method: RID, Base: 10000, Size: 90000, Slice: 10000}, contoso)
	got := slices.Collect(m.Candidates(identity.MustParseSID(contoso).WithRID(51500)))
	if len(got) != 8 || got[0] != 71500 || slices.Contains(got, 61500) {
		t.Errorf("candidates past a refused id: %v", got)
	}
}

// TestCandidateProperties: whatever the map and the SID, candidates are allowed,
// distinct, and the arithmetic leads back where it can.
func TestCandidateProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		cfg := Config{Method: []Method{RID, SSSD, AutoRID}[rng.IntN(3)], Base: 1000 + rng.Uint32N(1<<20), Size: 10000 + rng.Uint32N(1<<21)}
		cfg.Slice = 1000 + rng.Uint32N(cfg.Size-1000)
		m := mustMap(t, cfg, contoso)
		for range 20 {
			sid := m.Domain().WithRID(rng.Uint32N(cfg.Size * 2))
			seen := map[uint32]bool{}
			for id := range m.Candidates(sid) {
				if seen[id] || !m.Contains(id) || Refused(id) {
					t.Fatalf("%+v: candidate %d of %s, twice %v", cfg, id, sid, seen[id])
				}
				seen[id] = true
			}
			natural, ok := m.Natural(sid)
			if ok != seen[natural] && ok {
				t.Fatalf("%+v: the natural id %d of %s is no candidate", cfg, natural, sid)
			}
			if back, found := m.SID(natural); ok && cfg.Method != SSSD && (!found || back != sid) {
				t.Fatalf("%+v: %s -> %d -> %s, %v", cfg, sid, natural, back, found)
			}
		}
	}
}

func FuzzNatural(f *testing.F) {
	f.Add("rid", uint32(0), uint32(0), uint32(0), uint32(1105))
	f.Add("sssd", uint32(0), uint32(0), uint32(0), uint32(1<<32-1))
	f.Add("autorid", uint32(100000), uint32(1000000), uint32(100000), uint32(99999))
	f.Fuzz(func(t *testing.T, method string, base, size, slice, rid uint32) {
		domain := identity.MustParseSID(contoso)
		m, err := New(Config{Method: Method(method), Base: base, Size: size, Slice: slice}, domain)
		if err != nil {
			return
		}
		sid := domain.WithRID(rid)
		id, ok := m.Natural(sid)
		if ok && (Refused(id) || id < m.cfg.Base || id > m.cfg.Base+(m.cfg.Size-1)) {
			t.Fatalf("%+v: RID %d got %d", m.cfg, rid, id)
		}
		if back, found := m.SID(id); ok && m.cfg.Method != SSSD && (!found || back != sid) {
			t.Fatalf("%+v: %s -> %d -> %s, %v", m.cfg, sid, id, back, found)
		}
		n := 0
		for c := range m.Candidates(sid) {
			if Refused(c) {
				t.Fatalf("%+v: candidate %d", m.cfg, c)
			}
			if n++; n > 50 {
				break
			}
		}
	})
}
