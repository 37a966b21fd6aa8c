// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/store"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// people is how many users the store of a benchmark has.
const people = 5000

// fullStore makes a store with people in it, as the mirror leaves it.
func fullStore(dir string) (*store.Store, error) {
	ctx := context.Background()
	s, err := store.Open(ctx, filepath.Join(dir, "db"), store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	ids, err := idmap.New(idmap.Config{}, domain.SID)
	if err != nil {
		return nil, err
	}
	if err := s.SetPolicy(ctx, store.Policy{Domain: domain, IDs: ids}); err != nil {
		return nil, err
	}
	return s, s.Update(ctx, func(tx *store.Tx) error {
		g := store.NewGroup()
		g.Group.Account, g.Group.SID, g.Group.ObjectGUID = "Domain Users", domain.SID.WithRID(513), identity.GUID{1}
		g.Group.Scope, g.Group.Security = identity.ScopeGlobal, true
		if err := tx.Put(g); err != nil {
			return err
		}
		for n := range people {
			r, account := store.NewUser(), fmt.Sprintf("user%05d", n)
			u := r.User
			u.OID, u.ObjectGUID = identity.GUID{0: 2, 14: byte(n >> 8), 15: byte(n)}, identity.GUID{0: 3, 14: byte(n >> 8), 15: byte(n)}
			u.SID, u.PrimaryGroup = domain.SID.WithRID(uint32(2000+n)), domain.SID.WithRID(513)
			u.Account, u.UPN = account, account+"@contoso.onmicrosoft.test"
			u.DisplayName, u.GivenName, u.Surname = "Person "+account, "Person", account
			u.Mail, u.MailNickname = account+"@contoso.test", account
			u.DN = "CN=Person " + account + ",OU=AADDC Users,DC=aadds,DC=contoso,DC=test"
			u.PasswordLastSet = time.Unix(1700000000, 0)
			if err := tx.Put(r); err != nil {
				return err
			}
		}
		return tx.SetSync(store.Sync{Complete: true})
	})
}

// serveBench is what this test binary does as the daemon of a benchmark: on the
// socket api it serves a store as the product does, on the socket empty a method
// that answers an empty message with an empty message: what gRPC itself costs,
// with grpc-go's defaults and nothing of ours. It ends with its standard input.
func serveBench(dir string) error {
	s, err := fullStore(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	home := func(u *identity.User) { u.Gecos, u.Home, u.Shell = u.DisplayName, "/home/"+u.Name, "/bin/bash" }
	directory := resolve.New(resolve.FromStore(s), resolve.Presentation{Present: home, Domain: domain})
	w := &work{}
	ours := grpcapi.New(grpcapi.Config{
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Policy: peer.NewPolicy(peer.Members{}),
		Directory: directory,
		Admin:     grpcapi.Admin{Joiner: w, Leaver: w, Syncer: w, Statuser: w, Configurer: w},
	})
	api, err := peer.Open(peer.Socket{Name: peer.API, Path: filepath.Join(dir, "api"), Mode: 0o600, GID: ownGID(), DirMode: 0o700})
	if err != nil {
		return err
	}
	bare, err := net.Listen("unix", filepath.Join(dir, "empty"))
	if err != nil {
		return err
	}
	plain := grpc.NewServer()
	plain.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Empty", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Call",
		Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(emptypb.Empty)
			if err := dec(in); err != nil {
				return nil, err
			}
			return new(emptypb.Empty), nil
		},
	}}}, nil)
	e, err := directory.User(context.Background(), identity.Key{Kind: identity.ByName, Name: "user00042"})
	if err != nil {
		return err
	}
	made := grpcapi.ToUser(e)
	plain.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Fixed", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Call",
		Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(latchkeyv1.GetUserRequest)
			if err := dec(in); err != nil {
				return nil, err
			}
			return made, nil
		},
	}}}, nil)
	go func() { _ = ours.Serve(api) }()
	go func() { _ = plain.Serve(bare) }()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startBench starts the daemon of a benchmark in a process of its own, as it is
// in life, and returns a client of each socket and its pid.
func startBench(tb testing.TB) (api, empty *grpc.ClientConn, pid int) {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "GRPCAPI_TEST_SERVE="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		tb.Fatalf("the daemon said %q, %v", line, err)
	}
	dial := func(name string) *grpc.ClientConn {
		cc, err := grpc.NewClient("unix:"+filepath.Join(dir, name), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = cc.Close() })
		return cc
	}
	return dial("api"), dial("empty"), cmd.Process.Pid
}

// sample is what some callers measured.
type sample struct {
	server int             // the daemon's pid
	each   []time.Duration // of every call
	wall   time.Duration   // of all of them
	theirs time.Duration   // processor time of the daemon
	own    time.Duration   // processor time of the callers
}

// processorTime of a process, in steps of 10 ms (proc(5): stat).
func processorTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// run makes n calls by so many callers and adds the figures.
func (s *sample) run(callers, n int, call func(i int) error) error {
	var all sync.WaitGroup
	each := make([][]time.Duration, callers)
	errs := make([]error, callers)
	began, theirs, own := time.Now(), processorTime(s.server), processorTime(os.Getpid())
	for c := range callers {
		all.Go(func() {
			for i := c; i < n; i += callers {
				t := time.Now()
				if err := call(i); err != nil {
					errs[c] = err
					return
				}
				each[c] = append(each[c], time.Since(t))
			}
		})
	}
	all.Wait()
	s.wall += time.Since(began)
	s.theirs += processorTime(s.server) - theirs
	s.own += processorTime(os.Getpid()) - own
	for c := range callers {
		if errs[c] != nil {
			return errs[c]
		}
		s.each = append(s.each, each[c]...)
	}
	return nil
}

func (s *sample) percentile(p int) float64 {
	slices.Sort(s.each)
	return float64(s.each[(len(s.each)-1)*p/100].Nanoseconds()) / 1000
}

// perCall is a time in microseconds by the number of calls.
func (s *sample) perCall(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(len(s.each)) }

func (s *sample) rate() float64 { return float64(len(s.each)) / s.wall.Seconds() }

// BenchmarkGetUser measures GetUser beside an empty unary call of plain grpc-go
// in the same run, both served by one other process, turn by turn, so that whatever else the machine does falls
// on both. ratio-p50 is GetUser's median by the empty call's. Two more show
// where the time goes: a health check passes the same door with a message of two
// bytes, and a ready-made user is sent by plain grpc-go.
func BenchmarkGetUser(b *testing.B) {
	api, empty, pid := startBench(b)
	people := latchkeyv1.NewIdentityServiceClient(api)
	ctx := context.Background()
	three := &fieldmaskpb.FieldMask{Paths: []string{"username", "uid", "gid"}}
	calls := map[string]func(i int) error{
		"name": func(i int) error {
			_, err := people.GetUser(ctx, &latchkeyv1.GetUserRequest{Key: byName(fmt.Sprintf("user%05d", i*7919%5000))})
			return err
		},
		"uid": func(i int) error {
			_, err := people.GetUser(ctx, &latchkeyv1.GetUserRequest{Key: &latchkeyv1.Key{Key: &latchkeyv1.Key_Uid{Uid: uint32(100002001 + i*7919%5000)}}})
			return err
		},
		"three fields": func(i int) error {
			_, err := people.GetUser(ctx, &latchkeyv1.GetUserRequest{Key: byName(fmt.Sprintf("user%05d", i*7919%5000)), ReadMask: three})
			return err
		},
		"health check": func(int) error {
			_, err := healthpb.NewHealthClient(api).Check(ctx, &healthpb.HealthCheckRequest{})
			return err
		},
		"ready-made": func(int) error {
			return empty.Invoke(ctx, "/bench.Fixed/Call", &latchkeyv1.GetUserRequest{Key: byName("user00042")}, &latchkeyv1.User{})
		},
		"one user": func(int) error {
			_, err := people.GetUser(ctx, &latchkeyv1.GetUserRequest{Key: byName("user00042")})
			return err
		},
	}
	nothing := func(int) error {
		return empty.Invoke(ctx, "/bench.Empty/Call", &emptypb.Empty{}, &emptypb.Empty{})
	}
	for _, by := range []string{"name", "uid", "one user", "three fields", "health check", "ready-made"} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/%d callers", by, callers), func(b *testing.B) {
				ours, floor, warm := sample{server: pid}, sample{server: pid}, sample{server: pid}
				for _, call := range []func(int) error{nothing, calls[by]} {
					if err := warm.run(callers, 2000, call); err != nil {
						b.Fatal(err)
					}
				}
				b.ResetTimer()
				for left := b.N; left > 0; left -= 5000 {
					turn := max(min(left, 5000), callers)
					if err := floor.run(callers, turn, nothing); err != nil {
						b.Fatal(err)
					}
					if err := ours.run(callers, turn, calls[by]); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(ours.percentile(50), "p50-us")
				b.ReportMetric(ours.percentile(99), "p99-us")
				b.ReportMetric(ours.rate(), "calls/s")
				b.ReportMetric(floor.percentile(50), "empty-p50-us")
				b.ReportMetric(floor.percentile(99), "empty-p99-us")
				b.ReportMetric(floor.rate(), "empty-calls/s")
				b.ReportMetric(ours.percentile(50)/floor.percentile(50), "ratio-p50")
				b.ReportMetric(floor.rate()/ours.rate(), "ratio-rate")
				b.ReportMetric(ours.perCall(ours.theirs), "server-cpu-us")
				b.ReportMetric(ours.perCall(ours.own), "client-cpu-us")
				b.ReportMetric(floor.perCall(floor.theirs), "empty-server-cpu-us")
				b.ReportMetric(floor.perCall(floor.own), "empty-client-cpu-us")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
