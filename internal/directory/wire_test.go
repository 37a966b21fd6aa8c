// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
)

// contexts is both sides of a sealed connection.
func contexts(t testing.TB) (ours, theirs *kerberos.Context) {
	t.Helper()
	kdc := krbtest.New(testRealm)
	dc := kdc.Add(krbtest.Account{Name: []string{"DC$"}, Password: "x", Aliases: [][]string{{"ldap", "a"}}})
	i, token, err := kerberos.NewInitiator(kdc.Ticket("alice", []string{"ldap", "a"}, dc), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := kerberos.NewAcceptor(kdc.Keytab(dc)).Accept(token, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ours, err = i.Finish(a.Reply); err != nil {
		t.Fatal(err)
	}
	return ours, a.Context
}

// tape is a connection that plays bytes and records what is written.
type tape struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (t *tape) Read(p []byte) (int, error)  { return t.in.Read(p) }
func (t *tape) Write(p []byte) (int, error) { return t.out.Write(p) }
func (t *tape) Close() error                { return nil }

func framed(t testing.TB, c *kerberos.Context, texts ...[]byte) []byte {
	t.Helper()
	var out []byte
	for _, text := range texts {
		token, err := c.Seal(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(token))), token...)
	}
	return out
}

func TestWireReadsFramesCutAnywhere(t *testing.T) {
	for name, slow := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "halves": iotest.HalfReader, "with its error": iotest.DataErrReader,
	} {
		ours, theirs := contexts(t)
		big := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
		b := framed(t, theirs, []byte("one"), nil, []byte("two"), big)
		w := &wire{Conn: &tape{in: slow(bytes.NewReader(b))}}
		w.sealed.Store(ours)
		got, err := io.ReadAll(w)
		if want := append([]byte("onetwo"), big...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
}

func TestWireRefusesBrokenFrames(t *testing.T) {
	for name, bend := range map[string]func([]byte) []byte{
		"cut":         func(b []byte) []byte { return b[:len(b)-1] },
		"cut in head": func(b []byte) []byte { return b[:2] },
		"too large":   func(b []byte) []byte { return append([]byte{0x7f, 0xff, 0xff, 0xff}, b...) },
		"empty":       func(b []byte) []byte { return append([]byte{0, 0, 0, 0}, b...) },
		"bent":        func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"replayed":    func(b []byte) []byte { return append(bytes.Clone(b), b...) },
		"clear text":  func([]byte) []byte { return []byte("0\x0c\x02\x01\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00") },
	} {
		ours, theirs := contexts(t)
		w := &wire{Conn: &tape{in: bytes.NewReader(bend(framed(t, theirs, []byte("text"))))}}
		w.sealed.Store(ours)
		got, err := io.ReadAll(w)
		if err == nil || (len(got) != 0 && name != "replayed") {
			t.Errorf("%s: %q, %v, want an error and nothing read", name, got, err)
		}
	}
	w := &wire{Conn: &tape{in: bytes.NewReader(make([]byte, maxClear+1))}}
	if n, err := io.Copy(io.Discard, w); err == nil {
		t.Errorf("%d bytes were read before the bind", n)
	}
}

func TestWireWritesWithinThePeersLimit(t *testing.T) {
	ours, theirs := contexts(t)
	tp := &tape{}
	w := &wire{Conn: tp, limit: 500}
	w.sealed.Store(ours)
	text := bytes.Repeat([]byte("x"), 1234)
	if n, err := w.Write(text); n != len(text) || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	var got []byte
	for b := tp.out.Bytes(); len(b) > 0; {
		n := binary.BigEndian.Uint32(b)
		if n > 500+kerberos.Overhead {
			t.Errorf("a frame of %d bytes", n)
		}
		plain, sealed, err := theirs.Open(b[4 : 4+n])
		if err != nil || !sealed {
			t.Fatalf("Open = %v, %v", sealed, err)
		}
		got, b = append(got, plain...), b[4+n:]
	}
	if !bytes.Equal(got, text) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(text))
	}
}

func FuzzWire(f *testing.F) {
	ours, theirs := contexts(f)
	f.Add(framed(f, theirs, []byte("replayed from another place")), uint8(1))
	if _, _, err := ours.Open(framed(f, theirs, []byte("x"))[4:]); err == nil {
		f.Fatal("out of order")
	}
	f.Add([]byte{0, 0, 0, 16, 5, 4, 2, 0xff}, uint8(3))
	_, never := contexts(f)
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		n := int(cut) % (len(b) + 1)
		w := &wire{Conn: &tape{in: io.MultiReader(bytes.NewReader(b[:n]), bytes.NewReader(b[n:]))}}
		w.sealed.Store(never)
		if got, _ := io.ReadAll(w); len(got) > 0 {
			t.Errorf("%d bytes that nobody sealed came through", len(got))
		}
	})
}
