// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/latchkey-nas/latchkey/internal/login"
)

// ToUser is what GetUser answers with.
var ToUser = toUser

// TopicNumber is the number that a topic of package login has outside.
func TopicNumber(t login.Topic) int32 { return int32(topics[t]) }

// VerdictNumber is the number that a verdict has outside.
func VerdictNumber(v login.Verdict) int32 { return int32(verdicts[v]) }

// Unmarshal reads a message as the servers do.
func Unmarshal(data mem.BufferSlice, m proto.Message) error { return newCodec().Unmarshal(data, m) }

// KeepReadBuffers returns, when it is called, every buffer that connections have
// read into since, until stop is called.
func KeepReadBuffers() (kept func() [][]byte, stop func()) {
	var mu sync.Mutex
	var all [][]byte
	fresh := readBuffers.New
	readBuffers.New = func() any {
		b := new([readSize]byte)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, b[:])
		return b
	}
	return func() [][]byte { mu.Lock(); defer mu.Unlock(); return all }, func() { readBuffers.New = fresh }
}

// Recorded reports whether calls of a method are events of the audit.
func Recorded(method string) bool { _, yes := changing[method]; return yes }
