// SPDX-License-Identifier: Apache-2.0

package kerberos_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
)

var hostName = []string{"host", "nas.example.test"}

// pair sets up a context between a client and a service.
func pair(t testing.TB) (client, service *kerberos.Context, accepted *kerberos.Accepted) {
	t.Helper()
	kdc := krbtest.New(realm)
	nas := kdc.Add(krbtest.Account{Name: []string{"NAS$"}, Password: "machine", KVNO: 3, Aliases: [][]string{hostName}})
	i, token, err := kerberos.NewInitiator(kdc.Ticket("alice", hostName, nas), nil)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err = kerberos.NewAcceptor(kdc.Keytab(nas)).Accept(token, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err = i.Finish(accepted.Reply)
	if err != nil {
		t.Fatal(err)
	}
	return client, accepted.Context, accepted
}

func TestMessagesBothWays(t *testing.T) {
	client, service, accepted := pair(t)
	if accepted.Client.String() != "alice@EXAMPLE.TEST" || accepted.Service.String() != "host/nas.example.test@EXAMPLE.TEST" {
		t.Errorf("accepted %v at %v", accepted.Client, accepted.Service)
	}
	for n := range 70 { // every tail length of ciphertext stealing
		text := bytes.Repeat([]byte{byte(n)}, n)
		for _, way := range []struct{ from, to *kerberos.Context }{{client, service}, {service, client}} {
			token, err := way.from.Seal(text)
			if err != nil {
				t.Fatal(err)
			}
			if len(token) != n+kerberos.Overhead || (n > 8 && bytes.Contains(token, text)) {
				t.Errorf("sealing %d bytes made %d, in clear: %v", n, len(token), bytes.Contains(token, text))
			}
			if got, sealed, err := way.to.Open(token); err != nil || !sealed || !bytes.Equal(got, text) {
				t.Errorf("open of %d sealed bytes = %x, %v, %v", n, got, sealed, err)
			}
			if token, err = way.from.Sign(text); err != nil {
				t.Fatal(err)
			}
			if got, sealed, err := way.to.Open(token); err != nil || sealed || !bytes.Equal(got, text) {
				t.Errorf("open of %d signed bytes = %x, %v, %v", n, got, sealed, err)
			}
			mic, err := way.from.MIC(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := way.to.VerifyMIC(text, mic); err != nil {
				t.Errorf("checksum over %d bytes: %v", n, err)
			}
		}
	}
}

func TestRotatedTokens(t *testing.T) {
	// Windows rotates sealed tokens by 28, some acceptors signed ones by 12
	// (RFC 4121 4.2.5); any count must do, also past the length.
	for _, rrc := range []int{1, 12, 16, 28, 44, 45, 1000, 65535} {
		for _, sealed := range []bool{true, false} {
			client, service, _ := pair(t)
			wrap := service.Seal
			if !sealed {
				wrap = service.Sign
			}
			token, err := wrap([]byte("rotate me, please"))
			if err != nil {
				t.Fatal(err)
			}
			body := token[16:]
			n := rrc % len(body)
			copy(body, append(bytes.Clone(body[len(body)-n:]), body[:len(body)-n]...))
			token[6], token[7] = byte(rrc>>8), byte(rrc)
			if got, is, err := client.Open(token); err != nil || is != sealed || string(got) != "rotate me, please" {
				t.Errorf("rotated by %d, sealed %v: %q, %v, %v", rrc, sealed, got, is, err)
			}
		}
	}
}

func TestForgedReorderedAndReplayedTokens(t *testing.T) {
	client, service, _ := pair(t)
	one, _ := client.Seal([]byte("one"))
	two, _ := client.Seal([]byte("two"))
	if _, _, err := service.Open(bytes.Clone(two)); !fault.Is(err, fault.BadCredential) {
		t.Errorf("the second before the first: %v, want bad credential", err)
	}
	for i := range one {
		bent := bytes.Clone(one)
		bent[i] ^= 0x40
		if got, _, err := service.Open(bent); err == nil {
			t.Errorf("a token with byte %d bent was opened: %q", i, got)
		}
	}
	for i := range one {
		if got, _, err := service.Open(bytes.Clone(one[:i])); err == nil {
			t.Errorf("a token cut after %d bytes was opened: %q", i, got)
		}
	}
	if got, _, err := service.Open(bytes.Clone(one)); err != nil || string(got) != "one" {
		t.Fatalf("the first: %q, %v", got, err)
	}
	if _, _, err := service.Open(bytes.Clone(one)); !fault.Is(err, fault.BadCredential) {
		t.Errorf("the first again: %v, want bad credential", err)
	}
	if _, _, err := client.Open(bytes.Clone(two)); !fault.Is(err, fault.BadCredential) {
		t.Errorf("our own token sent back: %v, want bad credential", err)
	}
	mic, _ := client.MIC([]byte("text"))
	if err := service.VerifyMIC([]byte("other"), mic); err == nil {
		t.Error("a checksum over another text was taken")
	}
}

func TestAcceptorRefuses(t *testing.T) {
	kdc := krbtest.New(realm)
	nas := kdc.Add(krbtest.Account{Name: []string{"NAS$"}, Password: "machine", KVNO: 3, Aliases: [][]string{hostName}})
	other := kdc.Add(krbtest.Account{Name: []string{"OTHER$"}, Password: "x", KVNO: 3, Aliases: [][]string{{"host", "other.example.test"}}})
	a := kerberos.NewAcceptor(kdc.Keytab(nas))
	token := func(tk *kerberos.Ticket, binding []byte) []byte {
		_, b, err := kerberos.NewInitiator(tk, binding)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := token(kdc.Ticket("alice", hostName, nas), nil)
	if _, err := a.Accept(good, nil); err != nil {
		t.Fatal(err)
	}
	_, err := a.Accept(good, nil)
	var ke *kerberos.Error
	if !fault.Is(err, fault.BadCredential) || !errors.As(err, &ke) || ke.Code != kerberos.CodeRepeat {
		t.Errorf("a replay: %v, want bad credential by KRB_AP_ERR_REPEAT", err)
	}
	if _, err := a.Accept(token(kdc.Ticket("alice", []string{"host", "other.example.test"}, other), nil), nil); !fault.Is(err, fault.BadCredential) {
		t.Errorf("a ticket for another machine: %v, want bad credential", err)
	}
	kdc.Now = func() time.Time { return time.Now().Add(-3 * time.Hour) }
	old := kdc.Ticket("alice", hostName, nas)
	if _, err := a.Accept(token(old, nil), nil); !fault.Is(err, fault.BadCredential) {
		t.Errorf("an expired ticket: %v, want bad credential", err)
	}
	kdc.Now = nil
	binding := bytes.Repeat([]byte{7}, 16)
	if _, err := a.Accept(token(kdc.Ticket("alice", hostName, nas), binding), binding); err != nil {
		t.Errorf("the right channel: %v", err)
	}
	if _, err := a.Accept(token(kdc.Ticket("alice", hostName, nas), binding), bytes.Repeat([]byte{8}, 16)); !fault.Is(err, fault.BadCredential) {
		t.Errorf("another channel: %v, want bad credential", err)
	}
	a.SetKeytab(kdc.Keytab(other))
	if _, err := a.Accept(token(kdc.Ticket("alice", hostName, nas), nil), nil); !fault.Is(err, fault.BadCredential) {
		t.Errorf("with another's keys: %v, want bad credential", err)
	}
}

func TestInitiatorWantsProof(t *testing.T) {
	kdc := krbtest.New(realm)
	nas := kdc.Add(krbtest.Account{Name: []string{"NAS$"}, Password: "machine", Aliases: [][]string{hostName}})
	start := func() (*kerberos.Initiator, []byte) {
		i, token, err := kerberos.NewInitiator(kdc.Ticket("alice", hostName, nas), nil)
		if err != nil {
			t.Fatal(err)
		}
		return i, token
	}
	i, _ := start()
	_, token2 := start()
	acc, err := kerberos.NewAcceptor(kdc.Keytab(nas)).Accept(token2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Finish(acc.Reply); !fault.Is(err, fault.BadCredential) {
		t.Errorf("the answer to another client: %v, want bad credential", err)
	}
	for n := range acc.Reply {
		if _, err := i.Finish(acc.Reply[:n]); err == nil {
			t.Errorf("the first %d bytes of an answer were taken", n)
		}
	}
}

func FuzzAccept(f *testing.F) {
	kdc := krbtest.New(realm)
	nas := kdc.Add(krbtest.Account{Name: []string{"NAS$"}, Password: "machine", Aliases: [][]string{hostName}})
	_, token, err := kerberos.NewInitiator(kdc.Ticket("alice", hostName, nas), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add([]byte{0x60, 0x84, 0, 0, 0, 1})
	kt := kdc.Keytab(nas)
	f.Fuzz(func(t *testing.T, b []byte) {
		a := kerberos.NewAcceptor(kt)
		got, err := a.Accept(b, nil)
		if err == nil && (got.Client.String() != "alice@EXAMPLE.TEST" || got.Context == nil) {
			t.Errorf("accepted %+v", got)
		}
	})
}

func FuzzFinish(f *testing.F) {
	kdc := krbtest.New(realm)
	nas := kdc.Add(krbtest.Account{Name: []string{"NAS$"}, Password: "machine", Aliases: [][]string{hostName}})
	i, token, err := kerberos.NewInitiator(kdc.Ticket("alice", hostName, nas), nil)
	if err != nil {
		f.Fatal(err)
	}
	acc, err := kerberos.NewAcceptor(kdc.Keytab(nas)).Accept(token, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(acc.Reply)
	f.Add(append([]byte{0x60, 0x80 | 1, 13}, token[3:16]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Equal(b, acc.Reply) {
			return
		}
		if _, err := i.Finish(b); err == nil {
			t.Errorf("an answer that nobody made was taken: %x", b)
		}
	})
}

func FuzzOpen(f *testing.F) {
	client, service, _ := pair(f)
	for range 2 {
		b, err := client.Seal([]byte("seed"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, _ := client.Sign([]byte("seed"))
	f.Add(b)
	if _, _, err := service.Open(func() []byte { b, _ := client.Seal(nil); return b }()); err == nil {
		f.Fatal("a token out of order was opened")
	}
	f.Add([]byte("\x05\x04\x02\xff\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"))
	_, fresh, _ := pair(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, _, err := fresh.Open(b); err == nil {
			t.Errorf("a token that nobody made was opened: %q", got)
		}
		if err := fresh.VerifyMIC(b, b); err == nil {
			t.Error("a checksum that nobody made was taken")
		}
	})
}
