// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"google.golang.org/grpc/encoding"
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

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

// wipingPool gives out buffers that are wiped when they come back: requests on
// the admin socket carry passwords.
type wipingPool struct{}

// Get returns a fresh buffer.
func (wipingPool) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put wipes the buffer and leaves it to the garbage collector.
func (wipingPool) Put(b *[]byte) { secret.Wipe((*b)[:cap(*b)]) }
