// SPDX-License-Identifier: Apache-2.0

package pamcheck

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func TestAskAndServe(t *testing.T) {
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	c, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	done := make(chan error, 1)
	go func() {
		defer c.Close()
		done <- Serve(c.(*net.UnixConn), func(r Request) Reply {
			if r.Name != "ada" || r.RemoteHost != "10.0.0.1" || string(r.Password.Reveal()) != "pass word" {
				return Reply{Code: AuthErr}
			}
			return Reply{User: "ada", Account: true}
		})
	}()
	got, err := Ask(t.Context(), ours, Request{Name: "ada", RemoteHost: "10.0.0.1", Password: secret.Own([]byte("pass word"))})
	if err != nil || got != (Reply{User: "ada", Account: true}) || <-done != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAskEnds(t *testing.T) {
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Ask(ctx, ours, Request{Name: "ada"}); !fault.Is(err, fault.Unreachable) {
		t.Errorf("a process that is silent: %v", err)
	}
	_ = file.Close()
	other, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_ = file.Close()
	if _, err := Ask(t.Context(), other, Request{Name: "ada"}); !fault.Is(err, fault.Unreachable) {
		t.Errorf("a process that ended: %v", err)
	}
}

func TestRequestLimits(t *testing.T) {
	for name, r := range map[string]Request{"no name": {}, "long name": {Name: strings.Repeat("a", maxName+1)},
		"long password": {Name: "a", Password: secret.Own(make([]byte, maxPassword+1))}} {
		if _, err := r.encode(); !fault.Is(err, fault.BadCredential) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseRequest([]byte("\x01\x00a\x00\x00\x01\x00\x00")); err == nil {
		t.Error("a NUL in the password is taken")
	}
}

// Nothing is told apart before the password was right.
func TestErr(t *testing.T) {
	for _, test := range []struct {
		r    Reply
		want fault.Kind
	}{
		{Reply{Code: AuthErr}, fault.BadCredential},
		{Reply{Code: UserUnknown}, fault.BadCredential},
		{Reply{Code: MaxTries}, fault.BadCredential},
		{Reply{Code: PermDenied}, fault.BadCredential},
		{Reply{Code: AuthInfoUnavail}, fault.Unreachable},
		{Reply{Code: PermDenied, Account: true}, fault.Denied},
		{Reply{Code: UserUnknown, Account: true}, fault.Denied},
		{Reply{Code: NewAuthTokReqd, Account: true}, fault.MustChange},
		{Reply{Code: AcctExpired, Account: true}, fault.Expired},
		{Reply{Code: SystemErr}, fault.Internal},
		{Reply{Code: 200}, fault.Internal},
	} {
		if got := fault.KindOf(test.r.Err()); got != test.want {
			t.Errorf("%+v is %s, want %s", test.r, got, test.want)
		}
	}
	if err := (Reply{User: "a"}).Err(); err != nil {
		t.Errorf("success is %v", err)
	}
}

func FuzzParseRequest(f *testing.F) {
	seed, _ := Request{Name: "ada", RemoteHost: "::1", Password: secret.Own([]byte("x"))}.encode()
	f.Add(seed)
	f.Add([]byte("\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		if again, err := r.encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is printed as %x, %v", b, again, err)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add(Reply{User: "ada"}.encode())
	f.Add(Reply{Code: AuthErr, Account: true}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReply(b)
		if err != nil {
			return
		}
		if again := r.encode(); !bytes.Equal(again, b) {
			t.Errorf("%x is printed as %x", b, again)
		}
	})
}
