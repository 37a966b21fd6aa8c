// SPDX-License-Identifier: Apache-2.0

// Package journal writes log records to the standard error of a service: one
// line each, for the journal with its priority and without the time that the
// journal notes itself, for a terminal or a file with the time.
//
// It drops nothing, keeps nothing and knows no secret: values redact
// themselves (see package secret).
package journal

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// Level returns the level of one of the words debug, info, warn and error;
// info for anything else.
func Level(word string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(word)); err != nil {
		return slog.LevelInfo
	}
	return l
}

// New returns a handler that writes to w. format is "json", or anything else
// for text. priorities says whether w is read by journald, see IsJournal.
func New(w io.Writer, level slog.Leveler, format string, priorities bool) slog.Handler {
	s := &sink{w: w, priorities: priorities}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		_, level := a.Value.Any().(slog.Level)
		own := a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime || a.Key == slog.LevelKey && level
		if priorities && format != "json" && own && len(groups) == 0 {
			return slog.Attr{}
		}
		return a
	}}
	if format == "json" {
		s.priorities = false
		return &handler{sink: s, inner: slog.NewJSONHandler(&s.line, options)}
	}
	return &handler{sink: s, inner: slog.NewTextHandler(&s.line, options)}
}

// IsJournal says whether f is the stream that systemd connected to the journal
// (systemd.exec(5), JOURNAL_STREAM).
func IsJournal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == strconv.FormatUint(st.Dev, 10)+":"+strconv.FormatUint(st.Ino, 10)
}

// sink turns each record into one write.
type sink struct {
	mu         sync.Mutex
	w          io.Writer
	line       bytes.Buffer
	priorities bool
}

type handler struct {
	sink  *sink
	inner slog.Handler // writes into sink.line
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.inner.Enabled(ctx, l) }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{sink: h.sink, inner: h.inner.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{sink: h.sink, inner: h.inner.WithGroup(name)}
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	h.sink.line.Reset()
	if h.sink.priorities {
		h.sink.line.WriteString(priority(r.Level))
	}
	if err := h.inner.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.sink.w.Write(h.sink.line.Bytes())
	return err
}

// priority is the prefix of sd-daemon(3).
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}
