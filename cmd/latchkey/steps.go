// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// receive calls fn for each message of a stream until its end.
func receive[T any](stream grpc.ServerStreamingClient[T], fn func(*T) error) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(m); err != nil {
			return err
		}
	}
}

// stepped is a message of a long task: a step, or its result.
type stepped[T any] interface {
	*T
	GetStep() *latchkeyv1.Step
}

// follow prints the steps of a long task until its end, and shows each message
// to look, which waits for the result.
func follow[T any, M stepped[T]](a *app, stream grpc.ServerStreamingClient[T], look func(M)) error {
	err := receive(stream, func(m *T) error {
		look(m)
		return a.step(M(m).GetStep())
	})
	a.clearLine()
	return err
}

// step prints one line of a long task: what is under way only where a line can
// be overwritten, what is over everywhere.
func (a *app) step(s *latchkeyv1.Step) error {
	if s == nil {
		return nil
	}
	if a.json {
		return a.printLine(object{{"step", jsonOf(s)}})
	}
	mark, colour := "", ""
	switch s.GetState() {
	case latchkeyv1.Step_STATE_DONE:
		mark, colour = a.sign("✓", "ok  "), green
	case latchkeyv1.Step_STATE_WARNING:
		mark, colour = a.sign("!", "note"), yellow
	case latchkeyv1.Step_STATE_FAILED:
		mark, colour = a.sign("✗", "FAIL"), red
	default:
		a.transient(s)
		return nil
	}
	a.clearLine()
	line := a.paint(colour, mark) + " " + s.GetTitle()
	if d := s.GetDetail(); d != "" {
		line += a.sign(" – ", " - ") + strings.ReplaceAll(d, "\n", "\n    ")
	}
	if _, err := fmt.Fprintln(a.out, line); err != nil {
		return err
	}
	if r := s.GetRemedy(); r != "" {
		a.advised = r
		fmt.Fprintf(a.out, "    %s\n", strings.ReplaceAll(r, "\n", "\n    "))
	}
	return nil
}

// transient shows what is under way, on a line that the next one overwrites.
func (a *app) transient(s *latchkeyv1.Step) {
	if !a.live {
		return
	}
	text := s.GetTitle()
	if d := s.GetDetail(); d != "" {
		text += ": " + d
	}
	if p := s.GetPercent(); p >= 0 && p <= 100 {
		text = fmt.Sprintf("%3d%% %s", p, text)
	}
	text = a.sign("…", "...") + " " + strings.ReplaceAll(text, "\n", " ")
	for utf8.RuneCountInString(text) >= a.width {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	fmt.Fprint(a.out, "\r\x1b[K"+a.paint(dim, text))
}

// clearLine takes a transient line away.
func (a *app) clearLine() {
	if a.live && !a.json {
		fmt.Fprint(a.out, "\r\x1b[K")
	}
}
