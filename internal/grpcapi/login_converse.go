// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Conversation is one sign-in by questions and answers; *login.Conversation is.
type Conversation interface {
	Next(ctx context.Context, answer secret.Bytes) (login.Step, error)
	Close()
}

// maxReply is the longest answer to a question.
const maxReply = 1024

func (s *loginService) Converse(stream grpc.BidiStreamingServer[latchkeyv1.ConverseRequest, latchkeyv1.ConverseResponse]) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err != nil {
		return ended(err)
	}
	begin := first.GetBegin()
	if begin == nil {
		return bad("begin", "is not what the first message says")
	}
	answer := secret.Own(begin.GetPassword())
	defer func() { answer.Wipe() }()
	r, settle, err := s.attempt(ctx, login.Request{Name: begin.GetName(), Service: begin.GetService(), RemoteHost: begin.GetRemoteHost(), TTY: begin.GetTty()})
	if err != nil {
		return err
	}
	defer func() { _ = settle(context.Canceled) }() // where nobody says how it ended
	c := s.login.Converse(r)
	defer c.Close()
	for {
		step, err := c.Next(ctx, answer)
		answer.Wipe()
		answer = secret.Bytes{}
		if err != nil {
			err = settle(err)
			if len(step.Tell) > 0 {
				if lost := stream.Send(&latchkeyv1.ConverseResponse{Tell: step.Tell}); lost != nil {
					return lost
				}
			}
			return err
		}
		next := &latchkeyv1.ConverseResponse{Tell: step.Tell}
		if step.Done != nil {
			_ = settle(nil)
			next.Done = s.session(step.Done)
			step.Done.Wipe()
			return stream.Send(next)
		}
		next.Ask = toQuestion(step.Ask)
		if err := stream.Send(next); err != nil {
			return err
		}
		said, err := stream.Recv()
		if err != nil {
			return ended(err)
		}
		if _, ok := said.GetStep().(*latchkeyv1.ConverseRequest_Reply); !ok {
			return bad("reply", "is not what the message says")
		}
		answer = secret.Own(said.GetReply())
		if answer.Len() > maxReply {
			return bad("reply", "is longer than %d bytes", maxReply)
		}
	}
}

// ended is a client that sends nothing more in the middle of a conversation.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return bad("reply", "is missing: the client has closed its side")
	}
	return err
}

func toQuestion(p *login.Prompt) *latchkeyv1.ConverseResponse_Question {
	q := &latchkeyv1.ConverseResponse_Question{Text: p.Text, Kind: latchkeyv1.ConverseResponse_Question_KIND_HIDDEN}
	switch {
	case p.Echo:
		q.Kind = latchkeyv1.ConverseResponse_Question_KIND_SHOWN
	case p.New:
		q.Kind = latchkeyv1.ConverseResponse_Question_KIND_NEW_PASSWORD
	case p.Password:
		q.Kind = latchkeyv1.ConverseResponse_Question_KIND_PASSWORD
	}
	return q
}
