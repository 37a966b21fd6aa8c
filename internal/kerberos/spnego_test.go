// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"bytes"
	"testing"

	"github.com/jcmturner/gofork/encoding/asn1"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// negInit makes a NegTokenInit as a browser does.
func negInit(t testing.TB, token []byte, mechs ...asn1.ObjectIdentifier) []byte {
	t.Helper()
	inner, err := asn1.Marshal(negTokenInit{MechTypes: mechs, MechToken: token})
	if err != nil {
		t.Fatal(err)
	}
	choice, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner})
	if err != nil {
		t.Fatal(err)
	}
	oid, err := asn1.Marshal(oidSPNEGO)
	if err != nil {
		t.Fatal(err)
	}
	b, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, Tag: 0, IsCompound: true, Bytes: append(oid, choice...)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseNegotiation(t *testing.T) {
	krb := frame(idAPReq, []byte("request"))
	negoex := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 30}
	for _, test := range []struct {
		name, mechanism string
		in, token       []byte
	}{
		{"curl", MechKerberos, negInit(t, krb, oidKerberos), krb},
		{"Windows", MechKerberos, negInit(t, krb, oidMSKerberos, oidKerberos, negoex, oidNTLM), krb},
		{"bare Kerberos", MechKerberos, krb, krb},
		{"bare NTLM", MechNTLM, []byte("NTLMSSP\x00\x01\x00\x00\x00"), []byte("NTLMSSP\x00\x01\x00\x00\x00")},
		{"NTLM in SPNEGO", MechNTLM, negInit(t, []byte("NTLMSSP\x00"), oidNTLM), []byte("NTLMSSP\x00")},
		{"NEGOEX first", negoex.String(), negInit(t, []byte("x"), negoex, oidKerberos), []byte("x")},
		{"no token", MechKerberos, negInit(t, nil, oidKerberos), nil},
	} {
		n, err := ParseNegotiation(test.in)
		if err != nil || n.Mechanism != test.mechanism || !bytes.Equal(n.Token, test.token) {
			t.Errorf("%s: got %+v, %v, want %s", test.name, n, err, test.mechanism)
		}
	}
	whole := negInit(t, krb, oidKerberos)
	for name, in := range map[string][]byte{"nothing": nil, "cut": whole[:len(whole)-1], "longer": append(bytes.Clone(whole), 0), "no mechanism": negInit(t, krb),
		"text": []byte("hello"), "another mechanism": []byte("\x60\x05\x06\x03\x2a\x03\x04")} {
		if n, err := ParseNegotiation(in); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: got %+v, %v", name, n, err)
		}
	}
}

// The answer says accept-completed and repeats the client's own mechanism.
func TestNegotiationAnswer(t *testing.T) {
	n, err := ParseNegotiation(negInit(t, frame(idAPReq, nil), oidMSKerberos))
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Answer([]byte("proof"))
	if err != nil {
		t.Fatal(err)
	}
	var outer asn1.RawValue
	var resp negTokenResp
	if rest, err := asn1.Unmarshal(b, &outer); err != nil || len(rest) != 0 || outer.Class != asn1.ClassContextSpecific || outer.Tag != 1 {
		t.Fatalf("%x is no NegTokenResp: %v", b, err)
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &resp); err != nil || resp.State != 0 || !resp.Mech.Equal(oidMSKerberos) || string(resp.Token) != "proof" {
		t.Errorf("got %+v, %v", resp, err)
	}
	bare, err := ParseNegotiation(frame(idAPReq, nil))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := bare.Answer([]byte("proof")); err != nil || string(b) != "proof" {
		t.Errorf("a bare token is answered by %q, %v", b, err)
	}
}

// What parses as SPNEGO has a mechanism, and its token is a part of the input.
func FuzzParseNegotiation(f *testing.F) {
	f.Add(negInit(f, frame(idAPReq, []byte("x")), oidKerberos))
	f.Add(negInit(f, []byte("NTLMSSP\x00"), oidNTLM, oidKerberos))
	f.Add([]byte("NTLMSSP\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNegotiation(b)
		if err != nil {
			return
		}
		if n.Mechanism == "" || !bytes.Contains(b, n.Token) {
			t.Errorf("%x is %+v", b, n)
		}
		if n.Mechanism == MechKerberos {
			_, _ = PeekAPRequest(n.Token)
		}
		if _, err := n.Answer([]byte("x")); err != nil {
			t.Error(err)
		}
	})
}
