// SPDX-License-Identifier: Apache-2.0

// Package client calls the daemon's gRPC services for the command line, and
// turns what comes back into faults: the kind, the text and the remedy that the
// daemon had, or a plain word that the daemon cannot be reached.
//
// It never waits for a daemon that is not there, never retries, and keeps
// nothing. Programs outside of this module use the generated package
// proto/latchkey/v1 with a gRPC client of their own; see the example there.
package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Where the sockets are (section "contracts" of the docs).
const (
	APISocket   = "/run/latchkey/api.sock"
	AdminSocket = "/run/latchkey/admin.sock"
)

// maxAnswer is the longest answer that is taken.
const maxAnswer = 16 << 20

// errNotReachable marks errors that the daemon itself did not make.
var errNotReachable = errors.New("daemon not reachable")

// NotReachable reports whether err says that the daemon could not be asked, as
// opposed to an answer of the daemon (which may be that it, in turn, could not
// reach a domain controller).
func NotReachable(err error) bool { return errors.Is(err, errNotReachable) }

// Conn is a connection to the daemon. Every error of its calls is a fault.
type Conn struct {
	Identity latchkeyv1.IdentityServiceClient
	Admin    latchkeyv1.AdminServiceClient // through admin.sock only
	Login    latchkeyv1.LoginServiceClient
	Access   latchkeyv1.AccessServiceClient // through admin.sock only
	Sso      latchkeyv1.SsoServiceClient
	SsoAdmin latchkeyv1.SsoAdminServiceClient // through admin.sock only
	Machine  latchkeyv1.MachineServiceClient  // through admin.sock only
	Health   healthpb.HealthClient

	cc *grpc.ClientConn
}

// DialAPI connects to the socket for everybody; path "" is APISocket.
func DialAPI(ctx context.Context, path string) (*Conn, error) {
	if path == "" {
		path = APISocket
	}
	return open(ctx, path, false)
}

// DialAdmin connects to the socket for administrators; path "" is AdminSocket.
// The process behind it must belong to root or to the caller: it will be told
// passwords. fault.Denied: the caller may not.
func DialAdmin(ctx context.Context, path string) (*Conn, error) {
	if path == "" {
		path = AdminSocket
	}
	return open(ctx, path, true)
}

func open(ctx context.Context, path string, trusted bool) (*Conn, error) {
	connect := func(ctx context.Context, _ string) (net.Conn, error) { return connect(ctx, path, trusted) }
	// gRPC connects lazily and its errors are for programs; look once by hand.
	probe, err := connect(ctx, "")
	if err != nil {
		return nil, explain(path, err)
	}
	_ = probe.Close()
	cc, err := grpc.NewClient("passthrough:///latchkey",
		grpc.WithContextDialer(connect),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a socket of this machine
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithChainUnaryInterceptor(unary),
		grpc.WithChainStreamInterceptor(stream))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "make a client", err)
	}
	return &Conn{
		Identity: latchkeyv1.NewIdentityServiceClient(cc),
		Admin:    latchkeyv1.NewAdminServiceClient(cc),
		Login:    latchkeyv1.NewLoginServiceClient(cc),
		Access:   latchkeyv1.NewAccessServiceClient(cc),
		Sso:      latchkeyv1.NewSsoServiceClient(cc),
		SsoAdmin: latchkeyv1.NewSsoAdminServiceClient(cc),
		Machine:  latchkeyv1.NewMachineServiceClient(cc),
		Health:   healthpb.NewHealthClient(cc),
		cc:       cc,
	}, nil
}

// Close ends the connection and every call on it.
func (c *Conn) Close() error { return c.cc.Close() }

func connect(ctx context.Context, path string, trusted bool) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil || !trusted {
		return conn, err
	}
	server, err := peer.CallerOf(conn.(*net.UnixConn))
	if err == nil && server.UID != 0 && server.UID != identity.UID(os.Geteuid()) {
		err = errStranger
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

var errStranger = errors.New("the process that listens there is neither root's nor yours")

// explain says what it means that a socket cannot be connected to.
func explain(path string, err error) error {
	unreachable := func(text, remedy string) error {
		return &fault.Error{Kind: fault.Unreachable, Op: text, Remedy: remedy, Err: errors.Join(errNotReachable, err)}
	}
	const start = "start it: systemctl start latchkeyd (without systemd: latchkeyd run, as root); if it does not stay up: journalctl -u latchkeyd"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return unreachable("latchkeyd is not running (there is no "+path+")", start)
	case errors.Is(err, syscall.ECONNREFUSED):
		return unreachable("latchkeyd is not running (nobody listens on "+path+")", start)
	case errors.Is(err, fs.ErrPermission):
		return &fault.Error{Kind: fault.Denied, Op: "you may not use " + path,
			Remedy: "do it as root, or as a member of the group latchkey-admin", Err: err}
	case errors.Is(err, errStranger):
		return &fault.Error{Kind: fault.Denied, Op: path + " is not latchkeyd's", Err: err,
			Remedy: "find out who made that socket before you type a password"}
	}
	return unreachable("latchkeyd cannot be reached through "+path, start)
}

// decode turns a gRPC error into a fault.
func decode(err error) error {
	st, ok := status.FromError(err)
	if !ok || st.Code() == codes.OK {
		return err
	}
	if ours, ok := rpcfault.FromStatus(st); ok {
		return ours
	}
	text, stale := st.Message(), "the daemon and this program are of different versions: restart the daemon"
	switch st.Code() {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return &fault.Error{Kind: fault.Unreachable, Op: "latchkeyd did not answer in time", Err: errNotReachable,
			Remedy: "look into its log: journalctl -u latchkeyd"}
	case codes.Unavailable:
		return &fault.Error{Kind: fault.Unreachable, Op: "the connection to latchkeyd is lost (" + text + ")", Err: errNotReachable,
			Remedy: "look into its log: journalctl -u latchkeyd"}
	case codes.Unimplemented:
		return &fault.Error{Kind: fault.Internal, Op: text, Remedy: stale}
	case codes.PermissionDenied:
		return fault.New(fault.Denied, text)
	case codes.ResourceExhausted:
		return fault.New(fault.Exhausted, text)
	}
	return fault.New(fault.Internal, text)
}

func unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	return decode(invoke(ctx, method, req, reply, cc, o...))
}

func stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, o...)
	if err != nil {
		return nil, decode(err)
	}
	return &decoding{s}, nil
}

// decoding is a stream whose errors are faults; io.EOF stays what it is.
type decoding struct{ grpc.ClientStream }

// RecvMsg is grpc.ClientStream's.
func (d *decoding) RecvMsg(m any) error { return decode(d.ClientStream.RecvMsg(m)) }

// SendMsg is grpc.ClientStream's.
func (d *decoding) SendMsg(m any) error { return decode(d.ClientStream.SendMsg(m)) }
