// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

var ctx = context.Background()

// daemon is a server that fails in a given way.
type daemon struct {
	latchkeyv1.UnimplementedIdentityServiceServer
	latchkeyv1.UnimplementedAdminServiceServer
	err error
}

func (d *daemon) GetUser(context.Context, *latchkeyv1.GetUserRequest) (*latchkeyv1.User, error) {
	return &latchkeyv1.User{Username: "alice"}, d.err
}

func (d *daemon) Sync(_ *latchkeyv1.SyncRequest, s grpc.ServerStreamingServer[latchkeyv1.SyncResponse]) error {
	if err := s.Send(&latchkeyv1.SyncResponse{Step: &latchkeyv1.Step{Id: "x"}}); err != nil {
		return err
	}
	return d.err
}

func serve(t *testing.T, d *daemon) (path string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	latchkeyv1.RegisterIdentityServiceServer(s, d)
	latchkeyv1.RegisterAdminServiceServer(s, d)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { s.Stop(); _ = os.RemoveAll(dir) })
	return path, s.Stop
}

func dial(t *testing.T, path string) *Conn {
	t.Helper()
	c, err := DialAdmin(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestFaultsComeBackAsTheyWere(t *testing.T) {
	d := &daemon{}
	c := dial(t, first(serve(t, d)))
	for _, k := range fault.Kinds()[1:] {
		d.err = rpcfault.ForAdministrator(fault.WithRemedy(fault.New(k, "it went wrong"), "do this"), "").Err()
		_, err := c.Identity.GetUser(ctx, &latchkeyv1.GetUserRequest{})
		s, openErr := c.Admin.Sync(ctx, &latchkeyv1.SyncRequest{})
		if openErr != nil {
			t.Fatal(openErr)
		}
		if m, err := s.Recv(); err != nil || m.GetStep().GetId() != "x" {
			t.Fatal(m, err)
		}
		_, streamErr := s.Recv()
		for how, err := range map[string]error{"unary": err, "stream": streamErr} {
			if !fault.Is(err, k) || err.Error() != "it went wrong" || fault.Remedy(err) != "do this" || NotReachable(err) {
				t.Errorf("%v, %s: came back as %v %q, remedy %q", k, how, fault.KindOf(err), err, fault.Remedy(err))
			}
		}
	}
	d.err = nil
	s, err := c.Admin.Sync(ctx, &latchkeyv1.SyncRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("the end of a stream is %v", err)
	}
	if u, err := c.Identity.GetUser(ctx, &latchkeyv1.GetUserRequest{}); err != nil || u.GetUsername() != "alice" {
		t.Errorf("GetUser = %v, %v", u, err)
	}
}

func first(path string, _ func()) string { return path }

func TestWithoutADaemonTheUserIsToldSo(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	for name, path := range map[string]string{"no socket": filepath.Join(dir, "none"), "no directory": filepath.Join(dir, "a", "b"), "nobody listens": dead} {
		for _, dial := range []func(context.Context, string) (*Conn, error){DialAPI, DialAdmin} {
			_, err := dial(ctx, path)
			if !NotReachable(err) || !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "latchkeyd is not running") ||
				!strings.Contains(fault.Remedy(err), "systemctl start") {
				t.Errorf("%s: %v, remedy %q", name, err, fault.Remedy(err))
			}
		}
	}
}

func TestWhoMayNotConnectIsToldWhoMay(t *testing.T) {
	err := explain(AdminSocket, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", os.ErrPermission)})
	if !fault.Is(err, fault.Denied) || NotReachable(err) || !strings.Contains(fault.Remedy(err), "latchkey-admin") {
		t.Errorf("%v (%v), remedy %q", err, fault.KindOf(err), fault.Remedy(err))
	}
	err = explain(AdminSocket, errStranger)
	if !fault.Is(err, fault.Denied) || NotReachable(err) || fault.Remedy(err) == "" {
		t.Errorf("%v (%v), remedy %q", err, fault.KindOf(err), fault.Remedy(err))
	}
}

func TestADaemonThatGoesAwayOrIsSilentIsNotReachable(t *testing.T) {
	path, stop := serve(t, &daemon{})
	c := dial(t, path)
	if _, err := c.Identity.GetUser(ctx, &latchkeyv1.GetUserRequest{}); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := c.Identity.GetUser(ctx, &latchkeyv1.GetUserRequest{}); !NotReachable(err) || fault.Remedy(err) == "" {
		t.Errorf("after it went away: %v", err)
	}

	silent := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", silent) // accepts by its backlog and never speaks
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := dial(t, silent).Identity.GetUser(short, &latchkeyv1.GetUserRequest{}); !NotReachable(err) {
		t.Errorf("of a silent one: %v", err)
	}
}

func TestWhatTheTransportSaysIsClassified(t *testing.T) {
	for code, kind := range map[codes.Code]fault.Kind{
		codes.PermissionDenied: fault.Denied, codes.ResourceExhausted: fault.Exhausted, codes.Unimplemented: fault.Internal,
		codes.Internal: fault.Internal, codes.Unknown: fault.Internal, codes.Unavailable: fault.Unreachable, codes.DeadlineExceeded: fault.Unreachable,
	} {
		if err := decode(status.Error(code, "x")); fault.KindOf(err) != kind {
			t.Errorf("%v is %v, want %v", code, fault.KindOf(err), kind)
		}
	}
	if err := decode(status.Error(codes.Canceled, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call is %v", err)
	}
	if decode(nil) != nil || decode(io.EOF) != io.EOF {
		t.Error("decode invents errors")
	}
	if NotReachable(nil) || NotReachable(fault.New(fault.Unreachable, "no DC")) {
		t.Error("an answer of the daemon is not an unreachable daemon")
	}
}
