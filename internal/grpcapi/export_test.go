// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
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
