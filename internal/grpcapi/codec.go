// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"sync"

	"google.golang.org/grpc/encoding"
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// heldAbove is the size from which an answer counts against what a user may
// leave unread. Shorter ones are bounded by the number of streams.
const heldAbove = 4 << 10

// held is a long answer with the connection that it is counted on.
type held struct {
	message proto.Message
	size    int
	conn    *peer.Conn
}

// hold counts a long answer; a short one comes back as it is.
func hold(message proto.Message, conn *peer.Conn) (any, error) {
	size := proto.Size(message)
	if size <= heldAbove {
		return message, nil
	}
	if err := conn.Hold(size); err != nil {
		return nil, err
	}
	return &held{message, size, conn}, nil
}

// codec is gRPC's own for Protocol Buffers, but for long answers, which give
// their bytes back to the caller's account when they have been sent or dropped.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(encproto.Name)} }

// Marshal encodes a message or a held answer; what is encoded already goes out
// without a copy.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	h, ok := v.(*held)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(make([]byte, 0, h.size), h.message)
	if err != nil {
		h.conn.Release(h.size)
		return nil, err
	}
	h.message = nil
	return mem.BufferSlice{mem.NewBuffer(&b, h)}, nil
}

// Get is of mem.BufferPool; nobody takes buffers from an answer.
func (h *held) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put is called when the last reference to the answer's bytes is gone.
func (h *held) Put(*[]byte) { h.conn.Release(h.size) }

// Unmarshal reads a message. The bytes that one with a secret was made of are
// wiped: gRPC would leave them to the garbage collector, or to another use.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok || !carriesSecret(m.ProtoReflect().Descriptor()) {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.Materialize() // a copy
	err := proto.Unmarshal(whole, m)
	secret.Wipe(whole)
	for _, part := range data {
		secret.Wipe(part.ReadOnlyData()) // frames of this message alone, that nobody reads again
	}
	return err
}

// secretive remembers carriesSecret by message.
var secretive sync.Map // protoreflect.FullName -> bool

// carriesSecret says whether a message, or one inside it, has a field that is
// not to be printed.
func carriesSecret(d protoreflect.MessageDescriptor) bool {
	if known, ok := secretive.Load(d.FullName()); ok {
		return known.(bool)
	}
	secretive.Store(d.FullName(), false) // ends recursion
	found := false
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		o, _ := f.Options().(*descriptorpb.FieldOptions)
		if o.GetDebugRedact() || f.Message() != nil && carriesSecret(f.Message()) {
			found = true
		}
	}
	secretive.Store(d.FullName(), found)
	return found
}
