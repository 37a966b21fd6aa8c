// SPDX-License-Identifier: Apache-2.0

// Package shim is the door of the PAM module: ttrpc on shim-root.sock.
//
// A connection is one conversation (proto/latchkey/v1/shim.proto): Begin, then
// questions and answers, then Done. It ends, and the attempt with it, when the
// module closes it. Only uid 0 is let in, by the socket's mode and by what the
// kernel says of who connected.
//
// The package decides nothing about people, asks nobody upstream, and never
// writes what was typed anywhere.
package shim

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Login decides. Its errors carry a fault.Kind; those of a Conversation are what
// a stranger may be told, those of the others are true.
type Login interface {
	// Begin opens one attempt to sign in by password. It cannot fail.
	Begin(Request) Conversation
	// Account says whether the person may use the service, however they proved
	// who they are. texts are to be shown either way.
	Account(context.Context, Request) (r *Result, texts []string, err error)
	// PasswordPlace says whether the password of the name can be changed here,
	// and where else it can be.
	PasswordPlace(ctx context.Context, name string) (url string, here bool, err error)
	// ChangePassword changes it. texts are to be shown either way.
	ChangePassword(ctx context.Context, req Request, current, next secret.Bytes) (texts []string, err error)
}

// Conversation is one attempt.
type Conversation interface {
	// Next takes the answer to the last question, none at first, and says what
	// follows. On an error, which ends the attempt, Step.Tell is still to be shown.
	Next(ctx context.Context, answer secret.Bytes) (Step, error)
	// Close ends the attempt, whether or not it was decided.
	Close()
}

// Request is who wants in where. Name is as typed, in any form.
type Request struct {
	Name, Service, TTY, RemoteHost, RemoteUser string
	Caller                                     peer.Caller
}

// Step is what follows: texts to show, and then a question or the end.
type Step struct {
	Tell []string
	Ask  *Prompt
	Done *Result
}

// Prompt is one question. Echo: the answer may be seen. New: the answer is the
// password to be.
type Prompt struct {
	Text      string
	Echo, New bool
}

// Result is a person who was let in. Name is the published one. The door wipes
// CCache, a FILE credential cache of version 4 or empty, when it has been sent.
type Result struct {
	Name     string
	UID      identity.UID
	GID      identity.GID
	CCache   secret.Bytes
	Warnings []string
}

// Config is what a Server needs. All but the durations is required.
type Config struct {
	Log    *slog.Logger
	Login  Login
	Limits peer.Limits
	// Identify says who connected: peer.CallerOf.
	Identify func(*net.UnixConn) (peer.Caller, error)
	// StillAt is how long the module waits for a word; it gives up after five
	// seconds. 0: 1 s, for a machine may be busy.
	StillAt time.Duration
	// Longest ends a conversation in which the user never answers. 0: 10 min.
	Longest time.Duration
}

// Server serves any number of listeners. Safe for concurrent use.
type Server struct {
	cfg  Config
	gate *peer.Gate
	life context.Context
	end  context.CancelFunc
	all  sync.WaitGroup
}

// New returns a server.
func New(cfg Config) *Server {
	if cfg.StillAt == 0 {
		cfg.StillAt = time.Second
	}
	if cfg.Longest == 0 {
		cfg.Longest = 10 * time.Minute
	}
	s := &Server{cfg: cfg, gate: peer.NewGate(peer.ShimRoot, cfg.Limits, cfg.Log, cfg.Identify)}
	// ttrpc tells the error stream of connections that ended; that is no news here.
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	s.life, s.end = context.WithCancel(log.WithLogger(context.Background(), logrus.NewEntry(quiet)))
	return s
}

// Serve accepts connections until Stop, which is no error, or until the listener
// fails.
func (s *Server) Serve(ln net.Listener) error {
	stop := context.AfterFunc(s.life, func() { _ = ln.Close() })
	defer stop()
	gated := s.gate.Listen(ln)
	for {
		conn, err := gated.Accept()
		if err != nil {
			if s.life.Err() != nil {
				return nil
			}
			var passing interface{ Temporary() bool }
			if errors.As(err, &passing) && passing.Temporary() {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return fault.Wrap(fault.Internal, "accept on shim-root.sock", err)
		}
		caller := conn.(*peer.Conn).Caller()
		if caller.UID != 0 {
			s.cfg.Log.Warn("a caller who is not root was sent away", "socket", peer.ShimRoot, "caller", caller)
			_ = conn.Close()
			continue
		}
		s.all.Go(func() { s.converse(conn, caller) })
	}
}

// Stop ends all conversations and waits for them, or for ctx.
func (s *Server) Stop(ctx context.Context) {
	s.end()
	done := make(chan struct{})
	go func() { s.all.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// converse serves one connection. ttrpc's methods cannot see on which connection
// they were called, so each has a server of its own.
func (s *Server) converse(conn net.Conn, caller peer.Caller) {
	ctx, cancel := context.WithTimeout(s.life, s.cfg.Longest)
	only := &single{conn: conn, closed: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = only.hang() })
	defer stop()
	server, err := ttrpc.NewServer()
	if err != nil {
		_ = conn.Close()
		cancel()
		return
	}
	c := &conversation{login: s.cfg.Login, log: s.cfg.Log, stillAt: s.cfg.StillAt, caller: caller, life: ctx,
		turns: make(chan *turn), replies: make(chan []secret.Bytes)}
	server.RegisterService(service, c.methods())
	_ = server.Serve(ctx, only) // ends when the connection does
	_ = server.Close()
	cancel()
	c.finish()
}

// single is a listener with one connection, and that connection.
type single struct {
	conn   net.Conn
	once   sync.Once
	taken  bool
	closed chan struct{}
}

// Accept returns the connection, and then an error as soon as that is closed.
func (s *single) Accept() (net.Conn, error) {
	if !s.taken {
		s.taken = true
		return &held{s.conn, s}, nil
	}
	<-s.closed
	return nil, net.ErrClosed
}

// Addr is the socket's.
func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }

// Close does nothing: the connection outlives the listening.
func (s *single) Close() error { return nil }

func (s *single) hang() error {
	err := s.conn.Close()
	s.once.Do(func() { close(s.closed) })
	return err
}

type held struct {
	net.Conn
	single *single
}

// Close closes the connection and ends Accept.
func (h *held) Close() error { return h.single.hang() }
