// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func TestTokensComeBack(t *testing.T) {
	mark := resolve.Mark{Name: `contoso\ž`, Row: 1 << 60}
	if got, err := parseMark(markToken(mark, 7), 7); err != nil || got != mark {
		t.Errorf("mark = %+v, %v", got, err)
	}
	if got, err := parseAfter(afterToken(99, 7), 7); err != nil || got != 99 {
		t.Errorf("after = %d, %v", got, err)
	}
	for _, p := range []resolve.Position{{}, {Kind: identity.KindUser}, {Kind: identity.KindGroup, Cursor: "x\x00y"}} {
		p.Log.Epoch, p.Log.Seq = 1<<63, 5
		if got, err := parsePosition(positionToken(p)); err != nil || *got != p {
			t.Errorf("position = %+v, %v, want %+v", got, err, p)
		}
	}
}

func TestNoTokenServesAnotherPurpose(t *testing.T) {
	p := resolve.Position{}
	tokens := []string{markToken(resolve.Mark{Name: "a", Row: 1}, 7), afterToken(1, 7), positionToken(p)}
	for i, tok := range tokens {
		if _, err := parseMark(tok, 7); (err == nil) != (i == 0) {
			t.Errorf("token %d as a mark: %v", i, err)
		}
		if _, err := parseAfter(tok, 7); (err == nil) != (i == 1) {
			t.Errorf("token %d as a row: %v", i, err)
		}
		if _, err := parsePosition(tok); (err == nil) != (i == 2) {
			t.Errorf("token %d as a position: %v", i, err)
		}
	}
	if _, err := parseMark(tokens[0], 8); !fault.Is(err, fault.Malformed) {
		t.Errorf("a token of another question: %v", err)
	}
	for _, bad := range []string{"x", "====", "cAEB\n", strings.Repeat("A", 5000), "cAEB=", "cIEAAA"} {
		if _, err := parseToken("page_token", bad); !fault.Is(err, fault.Malformed) {
			t.Errorf("parseToken(%.10q): %v", bad, err)
		}
	}
}

func TestQuestionsDiffer(t *testing.T) {
	if question("a", "bc") == question("ab", "c") {
		t.Error("questions run into each other")
	}
}

func FuzzToken(f *testing.F) {
	f.Add(markToken(resolve.Mark{Name: "alice", Row: 1}, 7))
	f.Add(afterToken(1, 7))
	f.Add(positionToken(resolve.Position{Kind: identity.KindUser, Cursor: "c"}))
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := parseToken("page_token", s)
		if err == nil && tok.String() != s {
			t.Fatalf("%q came back as %q", s, tok.String())
		}
		if p, err := parsePosition(s); err == nil && p != nil && positionToken(*p) != s {
			t.Fatalf("%q came back as %q", s, positionToken(*p))
		}
		if m, err := parseMark(s, 7); err == nil && s != "" && markToken(m, 7) != s {
			t.Fatalf("%q came back as %q", s, markToken(m, 7))
		}
	})
}

func FuzzKey(f *testing.F) {
	for _, k := range []*latchkeyv1.Key{
		{Key: &latchkeyv1.Key_Name{Name: `CONTOSO\alice`}}, {Key: &latchkeyv1.Key_Uid{Uid: 1}}, {Key: &latchkeyv1.Key_Gid{Gid: 1}},
		{Key: &latchkeyv1.Key_Sid{Sid: "S-1-5-32-544"}}, {Key: &latchkeyv1.Key_Oid{Oid: "00112233-4455-6677-8899-aabbccddeeff"}},
		{Key: &latchkeyv1.Key_ObjectGuid{ObjectGuid: "00112233-4455-6677-8899-aabbccddeeff"}}, {Key: &latchkeyv1.Key_Resource{Resource: "users/17"}},
	} {
		b, err := proto.Marshal(k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var k latchkeyv1.Key
		if proto.Unmarshal(b, &k) != nil {
			return
		}
		for _, kind := range []identity.Kind{0, identity.KindUser, identity.KindGroup} {
			q, err := parseQuestion("key", &k, kind)
			if err != nil {
				if !fault.Is(err, fault.Malformed) {
					t.Fatalf("%v: %v is not Malformed", &k, err)
				}
				if _, ok := err.(*badRequest); !ok {
					t.Fatalf("%v: %T could tell too much", &k, err)
				}
				continue
			}
			if q.Key.Kind == 0 || kind != 0 && q.Kind != kind {
				t.Fatalf("%v as %v gave %+v", &k, kind, q)
			}
		}
	})
}

func FuzzResource(f *testing.F) {
	f.Add("users/17")
	f.Add("groups/018")
	f.Fuzz(func(t *testing.T, s string) {
		if row, kind, err := parseResource(s); err == nil && resource(kind, row) != s {
			t.Fatalf("%q came back as %q", s, resource(kind, row))
		}
	})
}
