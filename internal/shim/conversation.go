// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

const service = "latchkey.v1.ShimService"

// The bounds of shim.proto.
const (
	maxName  = 1024
	maxItem  = 255
	maxReply = 4096
	maxText  = 4096
	maxLines = 16

	maxCCache = 512 << 10
)

// turn is one word of the daemon's, and how many answers it wants.
type turn struct {
	words     *latchkeyv1.Turn
	questions int
}

// conversation is what one connection is about. The script runs beside the
// methods, so that it may take longer than the module would wait for one answer.
type conversation struct {
	login   Login
	log     *slog.Logger
	stillAt time.Duration
	caller  peer.Caller
	life    context.Context // of the connection

	turns   chan *turn
	replies chan []secret.Bytes

	mu     sync.Mutex // one call at a time
	begun  bool
	over   bool
	wanted int // answers to the last turn
	script sync.WaitGroup
	tokens secret.Bytes // the script's: what the last turn carries
}

// finish waits for the script, and wipes what was sent.
func (c *conversation) finish() {
	c.script.Wait()
	c.tokens.Wipe()
}

// methods is ShimService. It is written by hand: the generator for ttrpc would
// make services of the whole package.
func (c *conversation) methods() *ttrpc.ServiceDesc {
	return &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"Begin": func(ctx context.Context, unmarshal func(any) error) (any, error) {
			var req latchkeyv1.BeginRequest
			if err := unmarshal(&req); err != nil {
				return nil, status.Error(codes.InvalidArgument, "the request cannot be read")
			}
			return c.begin(ctx, &req)
		},
		"Tell": func(ctx context.Context, unmarshal func(any) error) (any, error) {
			var req latchkeyv1.TellRequest
			if err := unmarshal(&req); err != nil {
				return nil, status.Error(codes.InvalidArgument, "the request cannot be read")
			}
			defer func() {
				for _, r := range req.GetReplies() {
					secret.Wipe(r)
				}
			}()
			return c.tell(ctx, req.GetReplies())
		},
	}}
}

func (c *conversation) begin(ctx context.Context, req *latchkeyv1.BeginRequest) (*latchkeyv1.Turn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun {
		return nil, status.Error(codes.FailedPrecondition, "the conversation has begun already")
	}
	script := scripts[req.GetPurpose()]
	if script == nil {
		return nil, status.Error(codes.InvalidArgument, "no such purpose")
	}
	if len(req.GetName()) == 0 || len(req.GetName()) > maxName ||
		max(len(req.GetService()), len(req.GetTty()), len(req.GetRemoteHost()), len(req.GetRemoteUser())) > maxItem {
		return nil, status.Error(codes.InvalidArgument, "a name is empty or too long")
	}
	c.begun = true
	who := Request{Name: text(req.GetName()), Service: text(req.GetService()), TTY: text(req.GetTty()),
		RemoteHost: text(req.GetRemoteHost()), RemoteUser: text(req.GetRemoteUser()), Caller: c.caller}
	c.script.Go(func() { script(&talk{c}, who) })
	return c.next(ctx)
}

// text keeps bytes that are no UTF-8 from being taken for a name that exists.
func text(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

func (c *conversation) tell(ctx context.Context, replies [][]byte) (*latchkeyv1.Turn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun || c.over {
		return nil, status.Error(codes.FailedPrecondition, "there is no conversation")
	}
	if len(replies) != c.wanted {
		return nil, status.Errorf(codes.InvalidArgument, "%d answers to %d questions", len(replies), c.wanted)
	}
	answers := make([]secret.Bytes, len(replies))
	for i, r := range replies {
		if len(r) > maxReply {
			wipe(answers)
			return nil, status.Errorf(codes.InvalidArgument, "an answer of more than %d bytes", maxReply)
		}
		answers[i] = secret.Own(r).Clone()
	}
	if c.wanted > 0 {
		c.wanted = 0
		select {
		case c.replies <- answers:
		case <-c.life.Done():
			wipe(answers)
			return nil, status.Error(codes.Unavailable, "the conversation has ended")
		}
	}
	return c.next(ctx)
}

// next waits for the script's next word, but not so long that the module would
// give up. The lock is held.
func (c *conversation) next(ctx context.Context) (*latchkeyv1.Turn, error) {
	soon := time.NewTimer(c.stillAt)
	defer soon.Stop()
	select {
	case t := <-c.turns:
		c.wanted, c.over = t.questions, t.words.GetDone() != nil
		return t.words, nil
	case <-soon.C:
		return &latchkeyv1.Turn{}, nil
	case <-ctx.Done():
	case <-c.life.Done():
	}
	return nil, status.Error(codes.Unavailable, "the conversation has ended")
}
