// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/latchkey-nas/latchkey/internal/lab"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// emptyServer is the argument that makes this program the peer: a process that
// answers an empty unary call and does nothing else.
const emptyServer = "serve-empty"

const emptyMethod = "/bench.Empty/Call"

func serveEmpty(socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Empty", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Call",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(emptypb.Empty)
			if err := decode(in); err != nil {
				return nil, err
			}
			return in, nil
		},
	}}}, struct{}{})
	return s.Serve(listener)
}

// serve makes this program a peer, in a session of its own as daemons are: the
// scheduler takes what shares the client's session for one group (sched(7),
// autogroup) and wakes it sooner than any daemon, by 10 to 30 us a call.
func serve(ctx context.Context, what, socket string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", what, socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func benchGRPC(ctx context.Context, s *stage, r *report) error {
	dir, err := os.MkdirTemp("", "latchkey-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "empty.sock")
	peer := serve(ctx, emptyServer, socket)
	if err := peer.Start(); err != nil {
		return err
	}
	defer func() { _ = peer.Process.Kill(); _ = peer.Wait() }()
	empty, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer empty.Close()
	callEmpty := func(ctx context.Context, _ int) error {
		return empty.Invoke(ctx, emptyMethod, &emptypb.Empty{}, &emptypb.Empty{}, grpc.WaitForReady(true))
	}
	identity := s.identity()
	get := func(mask *fieldmaskpb.FieldMask) func(context.Context, int) error {
		return func(ctx context.Context, i int) error {
			_, err := identity.GetUser(ctx, &latchkeyv1.GetUserRequest{
				Key: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: lab.UserName(i % s.people)}}, ReadMask: mask})
			return err
		}
	}
	whole, three := get(nil), get(&fieldmaskpb.FieldMask{Paths: []string{"username", "uid", "gid"}})
	rows := [][]string{{"callers", "GetUser p50 / p99", "empty call p50 / p99", "GetUser per second", "empty per second", "p50 ratio", "three fields, p50", "ratio"}}
	for _, callers := range []int{1, 8, 64} {
		var a, b, c load
		for range 3 { // in turn, so that the machine's moods fall on all
			if err := b.add(ctx, callers, callEmpty); err != nil {
				return err
			}
			if err := a.add(ctx, callers, whole); err != nil {
				return err
			}
			if err := c.add(ctx, callers, three); err != nil {
				return err
			}
		}
		rows = append(rows, []string{fmt.Sprint(callers), a.latency(), b.latency(), a.rate(), b.rate(), ratio(a.all.median(), b.all.median()),
			short(c.all.median()), ratio(c.all.median(), b.all.median())})
	}
	r.table("GetUser by gRPC over api.sock", rows...)
	return nil
}

// A load is calls by several callers at once.
type load struct {
	all  sample
	took time.Duration
}

const loadTime = 3 * time.Second

func (l *load) add(ctx context.Context, callers int, call func(context.Context, int) error) error {
	for i := range 200 { // warm
		if err := call(ctx, i); err != nil {
			return err
		}
	}
	results := make([]sample, callers)
	failed := make([]error, callers)
	began := time.Now()
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			for i := c; time.Since(began) < loadTime; i += callers {
				t := time.Now()
				if err := call(ctx, i); err != nil {
					failed[c] = err
					return
				}
				results[c] = append(results[c], time.Since(t))
			}
		})
	}
	group.Wait()
	l.took += time.Since(began)
	for c := range callers {
		if failed[c] != nil {
			return failed[c]
		}
		l.all = append(l.all, results[c]...)
	}
	return nil
}

func (l *load) latency() string {
	return short(l.all.quantile(0.5)) + " / " + short(l.all.quantile(0.99))
}

func (l *load) rate() string { return fmt.Sprintf("%.0f", float64(len(l.all))/l.took.Seconds()) }
