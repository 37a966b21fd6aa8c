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
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	"github.com/latchkey-nas/latchkey/internal/latency"
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
	strays *strays

	latency *latency.Set
	calls   calls
}

// tap runs when a call's headers are read, before its request is: the deadline
// that begins here holds for a client that sends slowly, too. It refuses
// nothing: a refusal here is not cheaper, and would leave the transport's
// context behind.
func (g *guard) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	conn, err := connOf(ctx)
	if err != nil {
		return ctx, status.Error(codes.PermissionDenied, "not allowed")
	}
	return g.calls.begin(ctx, conn, g.longest(info.FullMethodName)), nil
}

// conversationTime is how long somebody may think about a password.
const conversationTime = 5 * time.Minute

// longest is how long a call of this method may take; 0 is without end.
func (g *guard) longest(method string) time.Duration {
	switch method {
	case latchkeyv1.IdentityService_WatchIdentities_FullMethodName, healthpb.Health_Watch_FullMethodName,
		latchkeyv1.MachineService_ReadAudit_FullMethodName:
		return 0
	case latchkeyv1.LoginService_Converse_FullMethodName:
		return conversationTime
	case latchkeyv1.AdminService_Join_FullMethodName, latchkeyv1.AdminService_Leave_FullMethodName,
		latchkeyv1.AdminService_Sync_FullMethodName, latchkeyv1.MachineService_RotateMachineKey_FullMethodName,
		latchkeyv1.MachineService_ExportIds_FullMethodName, latchkeyv1.MachineService_ImportIds_FullMethodName,
		latchkeyv1.SsoAdminService_SetSso_FullMethodName, latchkeyv1.SsoAdminService_TestSso_FullMethodName:
		return g.limits.TaskTimeout
	}
	return g.limits.CallTimeout
}

// instant reports whether a method only looks something up in memory: it cannot
// be late, and needs no context to end it.
func instant(method string) bool {
	switch method {
	case latchkeyv1.IdentityService_GetUser_FullMethodName, latchkeyv1.IdentityService_GetGroup_FullMethodName,
		healthpb.Health_Check_FullMethodName:
		return true
	}
	return false
}

// refusal is of a caller who may not make a call, whatever it asks.
type refusal struct{ error }

// Unwrap gives the error its kind.
func (r refusal) Unwrap() error { return r.error }

// check asks whether the caller may call the method.
func (g *guard) check(ctx context.Context, method string) (*call, error) {
	c := callOf(ctx)
	if c == nil { // did not come through tap
		return nil, refusal{fault.New(fault.Denied, "the caller is not known")}
	}
	if err := g.policy.Check(g.door, method, c.conn.Caller()); err != nil {
		g.strays.record(g.door, method, c.conn.Caller())
		return c, refusal{err}
	}
	return c, nil
}

func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	began := time.Now()
	c, err := g.check(ctx, info.FullMethod)
	if err == nil {
		cancel := context.CancelFunc(nil)
		if !instant(info.FullMethod) {
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
		}
		g.calls.enter(c, cancel, false)
		resp, err = g.answer(ctx, req, c.conn, handler)
	}
	if err != nil {
		err = g.fail(info.FullMethod, c, err)
		_ = grpc.SetTrailer(ctx, rpcfault.Trailer(err)) // fails when nobody waits for it any longer
	}
	g.calls.end(c)
	g.latency.Observe(latency.Labels{info.FullMethod, status.Code(err).String()}, time.Since(began))
	return resp, err
}

func (g *guard) answer(ctx context.Context, req any, conn *peer.Conn, handler grpc.UnaryHandler) (resp any, err error) {
	defer recovered(&err)
	if resp, err = handler(ctx, req); err != nil {
		return nil, err
	}
	if m, ok := resp.(proto.Message); ok {
		return hold(m, conn)
	}
	return resp, nil
}

func (g *guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c, err := g.check(ss.Context(), info.FullMethod)
	if err == nil {
		err = g.long(srv, ss, c, handler)
	}
	if err != nil {
		err = g.fail(info.FullMethod, c, err)
		ss.SetTrailer(rpcfault.Trailer(err))
	}
	g.calls.end(c)
	return err
}

// long runs a streaming method, which may last: it takes one of the caller's
// places, and ends when the door closes.
func (g *guard) long(srv any, ss grpc.ServerStream, c *call, handler grpc.StreamHandler) (err error) {
	release, err := c.conn.OpenStream()
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	if !g.calls.enter(c, cancel, true) {
		return errClosing
	}
	defer recovered(&err)
	if err = handler(srv, &boundStream{ss, ctx}); err != nil && c.stopped.Load() {
		return errClosing
	}
	return err
}

var errClosing = fault.WithRemedy(fault.New(fault.Unreachable, "the daemon is stopping or starting anew"), "a moment later, do the same again")

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
func (g *guard) fail(method string, c *call, err error) error {
	kind := fault.KindOf(err)
	var (
		bad    *badRequest
		early  *panicked
		caller = "unknown"
		id     string
	)
	if c != nil {
		caller = c.conn.Caller().String()
	}
	log := g.log.With("socket", string(g.door), "method", method[strings.LastIndexByte(method, '/')+1:], "caller", caller)
	switch {
	case errors.As(err, &bad):
		log.Debug("request refused", "err", err)
		return bad.status().Err()
	case isStatus(err):
		log.Debug("call failed", "err", err)
		return err
	case c != nil && c.Err() == context.Canceled && !c.stopped.Load():
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
	switch {
	case g.door == peer.Admin:
		return rpcfault.ForAdministrator(err, id).Err()
	case kind == fault.Denied:
		return rpcfault.New(rpcfault.Code(kind), rpcfault.Reason(kind), rpcfault.Sentence(kind), g.remedyOfDenied(method, err), "").Err()
	}
	return rpcfault.ForStranger(err, id).Err()
}

// remedyOfDenied says to a stranger who may make the call, where it is the
// caller who may not, and otherwise what tells why the person may not.
func (g *guard) remedyOfDenied(method string, err error) string {
	var refused refusal
	if !errors.As(err, &refused) {
		return "`latchkey login NAME --service SERVICE` tells an administrator why, and what would help"
	}
	switch peer.Whose(g.door, method) {
	case peer.Authenticators:
		return "for root, members of the group latchkey-login and whom [api] authenticators names"
	case peer.Apps:
		return "for the account that [[sso.app]] names for this app"
	}
	if peer.Whose(peer.Admin, method) == peer.Administrators {
		return "for administrators, through admin.sock"
	}
	return "" // there is no such method
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
