// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"testing"
)

func TestSIDTextAndBytes(t *testing.T) {
	for _, tc := range []struct{ text, hex string }{
		{"S-1-0-0", "010100000000000000000000"},
		{"S-1-5-32-544", "01020000000000052000000020020000"},
		{"S-1-5-21-2153326666-2176343378-3404031434-1001", ""},
		{"S-1-0x000100000000-1", "010100010000000001000000"},
		{"S-1-5", "0100000000000005"},
	} {
		sid, err := ParseSID(tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		if got := hex.EncodeToString(sid.Bytes()); tc.hex != "" && got != tc.hex {
			t.Errorf("%s: bytes %s, want %s", tc.text, got, tc.hex)
		}
		if got := sid.String(); got != tc.text {
			t.Errorf("%s prints as %s", tc.text, got)
		}
		back, err := SIDFromBytes(sid.Bytes())
		if err != nil || back != sid {
			t.Errorf("%s: round trip gave %v, %v", tc.text, back, err)
		}
	}
}

func TestSIDRefusesNonsense(t *testing.T) {
	for _, text := range []string{"", "S", "S-1", "S-1-", "S-2-5-21", "S-1-5-", "S-1-5--1", "S-1-5-+1", "S-1-5-01",
		"S-1-5-4294967296", "S-1-281474976710656-1", "S-1-5-21 ", "X-1-5-21", "S-1-5-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1"} {
		if sid, err := ParseSID(text); err == nil {
			t.Errorf("ParseSID(%q) = %v, want an error", text, sid)
		}
	}
	for _, b := range [][]byte{nil, {1}, {1, 1, 0, 0, 0, 0, 0, 5}, {2, 0, 0, 0, 0, 0, 0, 5}, {1, 0, 0, 0, 0, 0, 0, 5, 0}, append([]byte{1, 16, 0, 0, 0, 0, 0, 5}, make([]byte, 64)...)} {
		if sid, err := SIDFromBytes(b); err == nil {
			t.Errorf("SIDFromBytes(%x) = %v, want an error", b, sid)
		}
	}
}

func TestSIDParts(t *testing.T) {
	domain := MustParseSID("S-1-5-21-1-2-3")
	user := domain.WithRID(1105)
	if got := user.String(); got != "S-1-5-21-1-2-3-1105" {
		t.Errorf("WithRID = %s", got)
	}
	if rid, ok := user.RID(); !ok || rid != 1105 || user.Domain() != domain || !user.In(domain) || user.In(user) {
		t.Errorf("parts of %s: rid %d %v, domain %s", user, rid, ok, user.Domain())
	}
	if _, ok := MustParseSID("S-1-5").RID(); ok || !(SID{}).Domain().IsZero() || !(SID{}).WithRID(1).IsZero() {
		t.Error("a SID without sub-authorities has neither RID nor domain")
	}
}

func TestGUIDOrder(t *testing.T) {
	const text = "00112233-4455-6677-8899-aabbccddeeff"
	g, err := ParseGUID("00112233-4455-6677-8899-AABBCCDDEEFF")
	if err != nil || g.String() != text {
		t.Fatalf("ParseGUID = %v, %v", g, err)
	}
	wire, _ := hex.DecodeString("33221100554477668899aabbccddeeff")
	if !bytes.Equal(g.Bytes(), wire) {
		t.Errorf("wire order = %x, want %x", g.Bytes(), wire)
	}
	for _, raw := range [][]byte{wire, []byte(text)} {
		if back, err := GUIDFromAttribute(raw); err != nil || back != g {
			t.Errorf("GUIDFromAttribute(%q) = %v, %v", raw, back, err)
		}
	}
	for _, bad := range []string{"", text + " ", text[1:], "00112233-4455-6677-8899-aabbccddeefg", "{00112233-4455-6677-8899-aabbccddee}"} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("ParseGUID(%q) passed", bad)
		}
	}
}

func TestJSON(t *testing.T) {
	type row struct {
		S SID
		G GUID
	}
	in := row{S: MustParseSID("S-1-5-32-544")}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"S":"S-1-5-32-544","G":""}` {
		t.Fatalf("marshal = %s, %v", b, err)
	}
	var out row
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Errorf("unmarshal = %+v, %v", out, err)
	}
}

func TestParseKey(t *testing.T) {
	for _, tc := range []struct {
		text string
		kind Kind
		want KeyKind
	}{
		{"1000", KindUser, ByUID}, {"1000", KindGroup, ByGID}, {"+1000", KindUser, ByName},
		{"S-1-5-32-544", KindUser, BySID}, {"00112233-4455-6677-8899-aabbccddeeff", KindUser, ByOID},
		{`CONTOSO\Ana`, KindUser, ByName}, {"ana@contoso.test", KindUser, ByName}, {"99999999999", KindUser, ByName},
	} {
		k, err := ParseKey(tc.text, tc.kind)
		if err != nil || k.Kind != tc.want {
			t.Errorf("ParseKey(%q) = %+v, %v, want kind %d", tc.text, k, err, tc.want)
		}
	}
	for _, bad := range []string{"", "a\nb", "\xff", string(make([]byte, 2000))} {
		if _, err := ParseKey(bad, KindUser); err == nil {
			t.Errorf("ParseKey(%.10q) passed", bad)
		}
	}
}

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"alice": "alice", "ALICE": "alice", "Žofie": "žofie", "ŽOFIE": "žofie", "O'Neil": "o'neil",
		"A\u030angstro\u0308m": "ångström", "ΣΊΣΥΦΟΣ": "σίσυφοσ",
	} {
		if got := Fold(in); got != want {
			t.Errorf("Fold(%q) = %q, want %q", in, got, want)
		}
		if Fold(Fold(in)) != Fold(in) {
			t.Errorf("Fold(%q) is not stable", in)
		}
	}
}

func FuzzParseSID(f *testing.F) {
	f.Add("S-1-5-21-1-2-3-500")
	f.Add("s-1-0x5-1")
	f.Fuzz(func(t *testing.T, s string) {
		sid, err := ParseSID(s)
		if err != nil {
			return
		}
		if again, err := ParseSID(sid.String()); err != nil || again != sid {
			t.Fatalf("%q -> %s -> %v, %v", s, sid, again, err)
		}
	})
}

func FuzzSIDFromBytes(f *testing.F) {
	f.Add(MustParseSID("S-1-5-32-544").Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		sid, err := SIDFromBytes(b)
		if err != nil {
			return
		}
		if !bytes.Equal(sid.Bytes(), b) {
			t.Fatalf("%x came back as %x", b, sid.Bytes())
		}
		if again, err := ParseSID(sid.String()); err != nil || again != sid {
			t.Fatalf("%s -> %v, %v", sid, again, err)
		}
	})
}

func FuzzParseGUID(f *testing.F) {
	f.Add("00112233-4455-6677-8899-aabbccddeeff")
	f.Fuzz(func(t *testing.T, s string) {
		if g, err := ParseGUID(s); err == nil && !g.IsZero() {
			if again, err := ParseGUID(g.String()); err != nil || again != g {
				t.Fatalf("%q -> %s -> %v, %v", s, g, again, err)
			}
		}
	})
}

func FuzzFold(f *testing.F) {
	f.Add("Ångström")
	f.Fuzz(func(t *testing.T, s string) {
		if CheckAsked(s) == nil && Fold(Fold(s)) != Fold(s) {
			t.Fatalf("Fold(%q) is not stable", s)
		}
	})
}
