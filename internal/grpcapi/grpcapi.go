// SPDX-License-Identifier: Apache-2.0

// Package grpcapi serves the product's gRPC services: IdentityService to
// everybody, LoginService to those who bring other people's passwords, SsoService to apps,
// AdminService and AccessService to administrators.
//
// Every method is three steps: parse the request, call the work, answer. The
// package decides nothing about people, remembers nothing, and never tells a
// stranger more of a failure than its kind and a fixed sentence; the cause is
// logged once, here, at the door. Who may call what is package peer's table.
package grpcapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/latency"
	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Config is what the doors need. Log, Policy, Directory and every field of
// Admin are required.
type Config struct {
	Log    *slog.Logger
	Policy *peer.Policy
	Limits peer.Limits // zero fields: the defaults

	// Directory answers who somebody is; *resolve.Resolver does.
	Directory Directory
	// Admin does what administrators ask for.
	Admin Admin
	// Login decides who may in; nil where nobody can be signed in.
	Login Login
	// Machine looks after keys, numbers and the audit; nil without a store.
	Machine Machine
	// Sso keeps who is signed in by a browser, SsoSetter sets that up; nil where
	// nobody can be signed in.
	Sso       Sso
	SsoSetter SsoSetter

	// Latency is how long unary calls took, by method and code; nil: nobody counts.
	Latency *latency.Set

	// Audit takes what administrators change; nil: nobody does.
	Audit Recorder

	// Identify reads who connected; nil is peer.CallerOf. Tests play others.
	Identify func(*net.UnixConn) (peer.Caller, error)
}

// Server serves both doors.
type Server struct {
	c      Config
	doors  map[peer.Name]*door
	health *health.Server

	mu       sync.Mutex
	stopping bool
	running  sync.WaitGroup
}

// door is one socket with the services that it has.
type door struct {
	name   peer.Name
	server *grpc.Server
	gate   *peer.Gate
	guard  *guard
}

// New returns a server that serves nothing yet.
func New(c Config) *Server {
	c.Limits = c.Limits.OrDefault()
	if c.Identify == nil {
		c.Identify = peer.CallerOf
	}
	s := &Server{c: c, doors: map[peer.Name]*door{}, health: health.NewServer()}
	s.SetServing(false)
	strayed := &strays{to: c.Audit}
	for _, name := range []peer.Name{peer.API, peer.Admin} {
		d := &door{name: name, gate: peer.NewGate(name, c.Limits, c.Log, c.Identify)}
		d.guard = &guard{door: name, policy: c.Policy, limits: c.Limits, log: newSparing(c.Log), strays: strayed, latency: c.Latency}
		d.guard.calls.interval = min(time.Second, c.Limits.CallTimeout/4)
		d.server = grpc.NewServer(s.options(d)...)
		d.server.RegisterService(identityDesc(), &identityService{directory: c.Directory, limits: c.Limits})
		latchkeyv1.RegisterLoginServiceServer(d.server, &loginService{login: c.Login, directory: c.Directory, door: name, wrong: &throttle{}})
		latchkeyv1.RegisterSsoServiceServer(d.server, &ssoService{sso: c.Sso, directory: c.Directory, door: name, changes: changes{c.Audit}})
		if name == peer.Admin {
			latchkeyv1.RegisterSsoAdminServiceServer(d.server, &ssoAdminService{setter: c.SsoSetter, changes: changes{c.Audit}})
			latchkeyv1.RegisterAccessServiceServer(d.server, &accessService{login: c.Login})
			latchkeyv1.RegisterAdminServiceServer(d.server, &adminService{admin: c.Admin, changes: changes{c.Audit}})
			latchkeyv1.RegisterMachineServiceServer(d.server, &machineService{machine: c.Machine, changes: changes{c.Audit}})
		}
		healthpb.RegisterHealthServer(d.server, s.health)
		reflection.Register(d.server)
		s.doors[name] = d
	}
	return s
}

func (s *Server) options(d *door) []grpc.ServerOption {
	l := s.c.Limits
	options := []grpc.ServerOption{
		grpc.Creds(peerCredentials{}),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.InTapHandle(d.guard.tap),
		grpc.UnaryInterceptor(d.guard.unary),
		grpc.StreamInterceptor(d.guard.stream),
		grpc.UnknownServiceHandler(unknownMethod),
		grpc.MaxRecvMsgSize(l.RequestBytes),
		// Answers are cut at AnswerBytes; one row more may come on top.
		grpc.MaxSendMsgSize(2 * l.AnswerBytes),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.MaxConcurrentStreams(l.StreamsPerConnection),
		grpc.ConnectionTimeout(l.HandshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: l.IdleTimeout, Time: l.PingInterval, Timeout: l.PingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: l.PingInterval / 6, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		grpc.StaticStreamWindowSize(64 << 10),
		grpc.StaticConnWindowSize(256 << 10),
		// Passwords pass here: leanConn reads ahead, and wipes; what a message was
		// made of, the codec wipes.
		grpc.ReadBufferSize(0),
	}
	if d.name == peer.API {
		// Goroutines that stay: growing a fresh stack costs as much as a lookup.
		options = append(options, grpc.NumStreamWorkers(l.StreamsPerConnection))
	}
	return options
}

// Serve answers on a listener until Stop; its name chooses the door (api or
// admin). It returns nil after Stop, and otherwise why it ended.
func (s *Server) Serve(ln *peer.Listener) error {
	d := s.doors[ln.Name()]
	if d == nil {
		return fault.Errorf(fault.Internal, "gRPC is not served on the listener %s", ln.Name())
	}
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return nil
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	err := d.server.Serve(d.gate.Listen(ln))
	if err == nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fault.Wrap(fault.Internal, "serve "+string(ln.Name()), err)
}

// SetServing says by the health service whether answers can be had: true when
// the mirror has been complete once.
func (s *Server) SetServing(yes bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if yes {
		status = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(latchkeyv1.IdentityService_ServiceDesc.ServiceName, status)
}

// Stop lets calls that are under way end until ctx does, and ends the rest.
// Watches and tasks are ended at once. The listeners are closed.
func (s *Server) Stop(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.health.Shutdown()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all sync.WaitGroup
		for _, d := range s.doors {
			d.guard.calls.close()
			all.Go(d.server.GracefulStop)
		}
		all.Wait()
		s.running.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		for _, d := range s.doors {
			d.server.Stop()
		}
		<-done
	}
}

// Methods returns the full names of all methods that a door serves, sorted.
func (s *Server) Methods(name peer.Name) []string {
	var all []string
	if d := s.doors[name]; d != nil {
		for service, info := range d.server.GetServiceInfo() {
			for _, m := range info.Methods {
				all = append(all, "/"+service+"/"+m.Name)
			}
		}
	}
	slices.Sort(all)
	return all
}
