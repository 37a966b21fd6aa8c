// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// guard stands before every method of one door: it counts the call, sets its
// deadline, asks the access table, catches panics, logs once, and turns errors
// into statuses.
type guard struct {
	door   peer.Name
	policy *peer.Policy
	limits peer.Limits
	log    *sparing

	mu     sync.Mutex
	closed bool
	ends   map[*context.CancelCauseFunc]struct{} // of long streams
}

// tap runs when a call's headers are read, before its request is: the deadline
// that it sets holds for a client that sends slowly, too. It refuses nothing: a
// refusal here is not cheaper and would leave the transport's context behind.
func (g *guard) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	conn, err := connOf(ctx)
	if err != nil {
		return ctx, status.Error(codes.PermissionDenied, "not allowed")
	}
	conn.Begin()
	most := g.longest(info.FullMethodName)
	if at, ok := ctx.Deadline(); most == 0 || ok && time.Until(at) <= most {
		context.AfterFunc(ctx, conn.End)
		return ctx, nil
	}
	bound, cancel := context.WithTimeout(ctx, most)
	context.AfterFunc(ctx, func() { // the transport cancels ctx after every call
		cancel()
		conn.End()
	})
	return bound, nil
}

// longest is how long a call of this method may take; 0 is without end.
func (g *guard) longest(method string) time.Duration {
	switch method {
	case latchkeyv1.IdentityService_WatchIdentities_FullMethodName, "/grpc.health.v1.Health/Watch":
		return 0
	case latchkeyv1.AdminService_Join_FullMethodName, latchkeyv1.AdminService_Leave_FullMethodName,
		latchkeyv1.AdminService_Sync_FullMethodName:
		return g.limits.TaskTimeout
	}
	return g.limits.CallTimeout
}

// enter asks whether the caller may call the method.
func (g *guard) enter(ctx context.Context, method string) (*peer.Conn, error) {
	conn, err := connOf(ctx)
	if err != nil {
		return nil, err
	}
	return conn, g.policy.Check(g.door, method, conn.Caller())
}

func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	conn, err := g.enter(ctx, info.FullMethod)
	if err == nil {
		resp, err = g.call(ctx, req, conn, handler)
	}
	if err != nil {
		return nil, g.fail(ctx, info.FullMethod, conn, err)
	}
	return resp, nil
}

func (g *guard) call(ctx context.Context, req any, conn *peer.Conn, handler grpc.UnaryHandler) (resp any, err error) {
	defer recovered(&err)
	if resp, err = handler(ctx, req); err != nil {
		return nil, err
	}
	return hold(resp.(proto.Message), conn)
}

func (g *guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := ss.Context()
	conn, err := g.enter(ctx, info.FullMethod)
	if err == nil {
		err = g.long(srv, ss, conn, handler)
	}
	if err != nil {
		return g.fail(ctx, info.FullMethod, conn, err)
	}
	return nil
}

// long runs a streaming method, which may last: it takes one of the caller's
// places, and ends when the door closes.
func (g *guard) long(srv any, ss grpc.ServerStream, conn *peer.Conn, handler grpc.StreamHandler) (err error) {
	release, err := conn.OpenStream()
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	if !g.register(&cancel) {
		return errClosing
	}
	defer g.forget(&cancel)
	defer recovered(&err)
	if err = handler(srv, &boundStream{ss, ctx}); err != nil && errors.Is(context.Cause(ctx), errClosing) {
		return errClosing
	}
	return err
}

var errClosing = fault.WithRemedy(fault.New(fault.Unreachable, "the daemon is stopping"), "call again")

func (g *guard) register(end *context.CancelCauseFunc) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	if g.ends == nil {
		g.ends = map[*context.CancelCauseFunc]struct{}{}
	}
	g.ends[end] = struct{}{}
	return true
}

func (g *guard) forget(end *context.CancelCauseFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.ends, end)
}

// close ends every stream under way, and refuses new ones.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for end := range g.ends {
		(*end)(errClosing)
	}
}

type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context ends with the call, or when the door closes.
func (s *boundStream) Context() context.Context { return s.ctx }

// panicked is a fault of ours that was caught at the door.
type panicked struct {
	value any
	stack []byte
}

// Error says that there was a panic; the stack is for the log.
func (p *panicked) Error() string { return "panic" }

func recovered(err *error) {
	if v := recover(); v != nil {
		*err = &panicked{v, debug.Stack()}
	}
}

// fail logs an error once and turns it into the status for this caller.
func (g *guard) fail(ctx context.Context, method string, conn *peer.Conn, err error) error {
	kind := fault.KindOf(err)
	var (
		bad    *badRequest
		early  *panicked
		caller = "unknown"
		id     string
	)
	if conn != nil {
		caller = conn.Caller().String()
	}
	log := g.log.With("socket", string(g.door), "method", method[strings.LastIndexByte(method, '/')+1:], "caller", caller)
	switch {
	case errors.As(err, &bad):
		log.Debug("request refused", "err", err)
		return bad.status().Err()
	case isStatus(err):
		log.Debug("call failed", "err", err)
		return err
	case ctx.Err() == context.Canceled:
		log.Debug("call given up by the client", "err", err)
		return status.Error(codes.Canceled, "the call was cancelled")
	case errors.As(err, &early):
		id = requestID()
		log.Error("panic in a call", "request_id", id, "panic", early.value, "stack", string(early.stack))
	case kind == fault.Unknown || kind == fault.Internal:
		id = requestID()
		log.Error("call failed", "request_id", id, "err", err)
	case kind == fault.Denied || kind == fault.Exhausted:
		log.Warn("call refused", "err", err)
	default:
		log.Debug("call failed", "kind", kind.String(), "err", err)
	}
	if g.door == peer.Admin {
		return rpcfault.ForAdministrator(err, id).Err()
	}
	return rpcfault.ForStranger(err, id).Err()
}

// isStatus reports whether err is a status that gRPC's own services made, which
// stays as it is.
func isStatus(err error) bool {
	_, ok := err.(interface{ GRPCStatus() *status.Status })
	return ok
}

// requestID joins what the caller is told to a line of the log.
func requestID() string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func unknownMethod(any, grpc.ServerStream) error {
	return status.Error(codes.Unimplemented, "no such method")
}

// sparing is a logger that strangers cannot flood: above debug it writes at most
// burst lines a minute, and then how many it left out.
type sparing struct {
	*slog.Logger
	state *sparingState
}

type sparingState struct {
	mu      sync.Mutex
	since   time.Time
	written int
	left    int
}

const burst = 60

func newSparing(log *slog.Logger) *sparing { return &sparing{log, &sparingState{}} }

// With adds attributes; the count is shared.
func (s *sparing) With(args ...any) *sparing { return &sparing{s.Logger.With(args...), s.state} }

// Warn logs what is worth an administrator's attention, within the limit.
func (s *sparing) Warn(msg string, args ...any) {
	if s.admit() {
		s.Logger.Warn(msg, args...)
	}
}

// Error logs a fault of ours, within the limit.
func (s *sparing) Error(msg string, args ...any) {
	if s.admit() {
		s.Logger.Error(msg, args...)
	}
}

func (s *sparing) admit() bool {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	if time.Since(s.state.since) >= time.Minute {
		if s.state.left > 0 {
			s.Logger.Warn("log lines left out", "lines", s.state.left)
		}
		s.state.since, s.state.written, s.state.left = time.Now(), 0, 0
	}
	if s.state.written >= burst {
		s.state.left++
		return false
	}
	s.state.written++
	return true
}
