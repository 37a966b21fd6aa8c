// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// The bytes that a request with a secret came in are wiped, in one piece or
// in several, right or broken.
func TestBytesOfARequestWithASecretAreWiped(t *testing.T) {
	word := []byte("hunter2 hunter2")
	for name, m := range map[string]proto.Message{
		"authenticate": &latchkeyv1.AuthenticateRequest{Name: "alice", Password: word},
		"change":       &latchkeyv1.ChangePasswordRequest{Name: "alice", OldPassword: word, NewPassword: word},
		"explain":      &latchkeyv1.ExplainRequest{Name: "alice", Password: word},
		"begin":        &latchkeyv1.ConverseRequest{Step: &latchkeyv1.ConverseRequest_Begin_{Begin: &latchkeyv1.ConverseRequest_Begin{Password: word}}},
		"reply":        &latchkeyv1.ConverseRequest{Step: &latchkeyv1.ConverseRequest_Reply{Reply: word}},
		"ntlm":         &latchkeyv1.VerifyNTLMRequest{Name: "alice", NtResponse: word},
		"negotiate":    &latchkeyv1.AcceptNegotiateRequest{Token: word},
		"join":         &latchkeyv1.JoinRequest{Password: word},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, cut := range []int{0, len(raw) / 2, len(raw) - 3} {
			one, two := bytes.Clone(raw[:cut]), bytes.Clone(raw[cut:])
			data := mem.BufferSlice{mem.SliceBuffer(two)}
			if cut > 0 {
				data = mem.BufferSlice{mem.SliceBuffer(one), mem.SliceBuffer(two)}
			}
			got := m.ProtoReflect().New().Interface()
			if err := grpcapi.Unmarshal(data, got); err != nil || !proto.Equal(got, m) {
				t.Errorf("%s cut at %d: %v, %v", name, cut, got, err)
			}
			if left := string(one) + string(two); strings.Trim(left, "\x00") != "" {
				t.Errorf("%s cut at %d: %q is left", name, cut, left)
			}
		}
		broken := append(bytes.Clone(raw), 0xff)
		if err := grpcapi.Unmarshal(mem.BufferSlice{mem.SliceBuffer(broken)}, m.ProtoReflect().New().Interface()); err == nil || bytes.Contains(broken, word[:5]) {
			t.Errorf("%s, broken: %v, %q is left", name, err, broken)
		}
	}
	plain, _ := proto.Marshal(&latchkeyv1.GetUserRequest{Key: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: "alice"}}})
	if err := grpcapi.Unmarshal(mem.BufferSlice{mem.SliceBuffer(plain)}, &latchkeyv1.GetUserRequest{}); err != nil || !bytes.Contains(plain, []byte("alice")) {
		t.Errorf("a request without a secret: %v, %q is left", err, plain)
	}
}

// What is called a password, a key or a response of a challenge is marked, so
// that it is neither printed nor left behind.
func TestFieldsWithSecretsAreMarked(t *testing.T) {
	marked := 0
	for _, file := range []protoreflect.FileDescriptor{latchkeyv1.File_latchkey_v1_login_proto, latchkeyv1.File_latchkey_v1_admin_proto, latchkeyv1.File_latchkey_v1_shim_proto} {
		var look func(protoreflect.MessageDescriptors)
		look = func(all protoreflect.MessageDescriptors) {
			for i := range all.Len() {
				m := all.Get(i)
				look(m.Messages())
				for j := range m.Fields().Len() {
					f := m.Fields().Get(j)
					name := string(f.Name())
					o, _ := f.Options().(*descriptorpb.FieldOptions)
					secret := f.Kind() == protoreflect.BytesKind && (strings.Contains(name, "password") || strings.Contains(name, "secret") || strings.Contains(name, "response") || strings.HasSuffix(name, "_key"))
					if secret && !o.GetDebugRedact() {
						t.Errorf("%s is not marked debug_redact", f.FullName())
					}
					if o.GetDebugRedact() {
						marked++
					}
				}
			}
		}
		look(file.Messages())
	}
	if marked < 10 {
		t.Errorf("%d fields are marked, want 10 at least: does the test look at the right place?", marked)
	}
}

// What both sockets were read into is blank when the connection rests.
func TestReadBuffersAreWiped(t *testing.T) {
	kept, stop := grpcapi.KeepReadBuffers()
	defer stop()
	runtime.GC() // what was pooled before goes
	runtime.GC()
	b := open(t, peer.Limits{})
	password := bytes.Repeat([]byte("hunter2 "), 100)
	for _, door := range []peer.Name{peer.API, peer.Admin} {
		c := latchkeyv1.NewLoginServiceClient(b.dial(door, root))
		for range 20 {
			if _, err := c.Authenticate(bg(t), &latchkeyv1.AuthenticateRequest{Name: "alice", Password: password, Service: "sshd"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	over, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b.server.Stop(over)
	all := kept()
	for _, buffer := range all {
		if bytes.Contains(buffer, password[:16]) {
			t.Error("a buffer holds a password still")
		}
	}
	if len(all) == 0 {
		t.Error("no buffer was seen")
	}
}
