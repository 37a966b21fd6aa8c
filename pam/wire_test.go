// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/ttrpc"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// same is a Turn as the Go implementation has it, in our words.
func same(m *latchkeyv1.Turn) Turn {
	t := Turn{Done: m.Done != nil}
	if m.Done != nil {
		t.Outcome, t.Name, t.UID, t.GID, t.CCache = int(m.Done.Outcome), m.Done.Name, m.Done.Uid, m.Done.Gid, m.Done.Ccache
	}
	if t.CCache == nil {
		t.CCache = []byte{}
	}
	for _, l := range m.Lines {
		t.Lines = append(t.Lines, Line{int(l.Kind), l.Text})
	}
	return t
}

func someTurns() []*latchkeyv1.Turn {
	full := &latchkeyv1.Turn{Done: &latchkeyv1.Done{Outcome: 1, Name: strings.Repeat("n", 255), Uid: 1<<32 - 1, Gid: 1000, Ccache: bytes.Repeat([]byte{5, 4}, 256<<10)}}
	for k := latchkeyv1.Line_KIND_INFO; k <= latchkeyv1.Line_KIND_ASK_NEW; k++ {
		full.Lines = append(full.Lines, &latchkeyv1.Line{Kind: k, Text: "Pässwort:\n" + strings.Repeat("x", 4000)})
	}
	return []*latchkeyv1.Turn{
		{}, {Done: &latchkeyv1.Done{}}, full,
		{Lines: []*latchkeyv1.Line{{Kind: latchkeyv1.Line_KIND_ASK_PASSWORD, Text: "Password: "}}},
		{Done: &latchkeyv1.Done{Outcome: latchkeyv1.Outcome_OUTCOME_DENIED}},
	}
}

func TestTurnsAreReadAsWritten(t *testing.T) {
	for i, m := range someTurns() {
		got, ok := ReadTurn(marshal(t, m))
		if !ok || !reflect.DeepEqual(got, same(m)) {
			t.Errorf("turn %d: read %v, it is the same: %v", i, ok, reflect.DeepEqual(got, same(m)))
		}
	}
}

func TestTurnsBeyondTheBounds(t *testing.T) {
	line := func(n int) []*latchkeyv1.Line {
		var all []*latchkeyv1.Line
		for range n {
			all = append(all, &latchkeyv1.Line{Kind: latchkeyv1.Line_KIND_INFO})
		}
		return all
	}
	done := marshal(t, &latchkeyv1.Turn{Done: &latchkeyv1.Done{Outcome: 1}})
	for name, b := range map[string][]byte{
		"17 lines":          marshal(t, &latchkeyv1.Turn{Lines: line(17)}),
		"a line of no kind": marshal(t, &latchkeyv1.Turn{Lines: []*latchkeyv1.Line{{Text: "x"}}}),
		"an unknown kind":   marshal(t, &latchkeyv1.Turn{Lines: []*latchkeyv1.Line{{Kind: 8}}}),
		"a NUL in a text":   marshal(t, &latchkeyv1.Turn{Lines: []*latchkeyv1.Line{{Kind: 1, Text: "a\x00b"}}}),
		"a long text":       marshal(t, &latchkeyv1.Turn{Lines: []*latchkeyv1.Line{{Kind: 1, Text: strings.Repeat("x", 4097)}}}),
		"a NUL in a name":   marshal(t, &latchkeyv1.Turn{Done: &latchkeyv1.Done{Outcome: 1, Name: "root\x00x"}}),
		"a long name":       marshal(t, &latchkeyv1.Turn{Done: &latchkeyv1.Done{Outcome: 1, Name: strings.Repeat("x", 256)}}),
		"a large ccache":    marshal(t, &latchkeyv1.Turn{Done: &latchkeyv1.Done{Outcome: 1, Ccache: make([]byte, 512<<10+1)}}),
		"two ends":          append(bytes.Clone(done), done...),
		"a uid of 33 bits":  {0x12, 0x06, 0x18, 0x80, 0x80, 0x80, 0x80, 0x10},
		"a group":           {0x0b},
		"half a varint":     {0x12, 0x80},
		"a length too long": {0x12, 0x05, 0x08},
		"field number 0":    {0x00, 0x00},
	} {
		if got, ok := ReadTurn(b); ok {
			t.Errorf("%s was read as %+v", name, got)
		}
	}
	if got, ok := ReadTurn(marshal(t, &latchkeyv1.Turn{Done: &latchkeyv1.Done{Outcome: 99}})); !ok || got.Outcome != int(latchkeyv1.Outcome_OUTCOME_INTERNAL) {
		t.Errorf("an outcome of later times was read as %d, %v", got.Outcome, ok)
	}
}

// What the module reads, the Go implementation reads alike; what the Go
// implementation writes of it is read alike again.
func FuzzTurn(f *testing.F) {
	for _, m := range someTurns() {
		f.Add(marshal(f, m))
	}
	f.Add([]byte{0x12, 0x02, 0x08, 0x01, 0x52, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := ReadTurn(b)
		if !ok {
			return
		}
		var m latchkeyv1.Turn
		if err := proto.Unmarshal(b, &m); err != nil {
			if strings.Contains(err.Error(), "UTF-8") { // bytes to the module, which shows them as they are
				return
			}
			t.Fatalf("the module reads what is no Turn: %v", err)
		}
		if m.Done != nil && (m.Done.Outcome < 0 || m.Done.Outcome > latchkeyv1.Outcome_OUTCOME_INTERNAL) {
			m.Done.Outcome = latchkeyv1.Outcome_OUTCOME_INTERNAL
		}
		if !reflect.DeepEqual(got, same(&m)) {
			t.Fatalf("the module reads %+v, Go %+v", got, same(&m))
		}
		if again, ok := ReadTurn(marshal(t, &m)); !ok || !reflect.DeepEqual(again, got) {
			t.Fatalf("read again: %+v, %v", again, ok)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, m := range []*ttrpc.Response{{}, {Payload: []byte("payload")}, {Status: &status.Status{Code: 14, Message: "gone"}}} {
		f.Add(marshal(f, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		code, payload, ok := ReadAnswer(b)
		if !ok {
			return
		}
		// The module skips what it does not need, so only these two are compared.
		var m ttrpc.Response
		if err := proto.Unmarshal(b, &m); err != nil {
			return
		}
		if code != m.GetStatus().GetCode() || !bytes.Equal(payload, m.Payload) {
			t.Fatalf("the module reads %d %q, Go %d %q", code, payload, m.GetStatus().GetCode(), m.Payload)
		}
	})
}

func FuzzBegin(f *testing.F) {
	f.Add(uint64(1), []byte("alice"), []byte("sshd"))
	f.Add(uint64(1<<40), []byte{}, bytes.Repeat([]byte{0xff}, 300))
	f.Fuzz(func(t *testing.T, purpose uint64, name, service []byte) {
		var m latchkeyv1.BeginRequest
		b := WriteBegin(purpose, name, service)
		if err := proto.Unmarshal(b, &m); err != nil {
			t.Fatalf("Go cannot read what the module writes: %v", err)
		}
		if m.Purpose != latchkeyv1.Purpose(int32(purpose)) || !bytes.Equal(m.Name, name) || !bytes.Equal(m.Service, service) {
			t.Fatalf("Go reads %v", &m)
		}
		if len(protowire.AppendVarint(nil, purpose)) > len(b) {
			t.Fatal("it is too short to be true")
		}
	})
}
