// SPDX-License-Identifier: Apache-2.0

//go:build lab

package grpcapi_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func init() { asChild["GRPCAPI_TEST_CALL"] = callAll }

// callAll makes the calls of a user and prints how they ended.
func callAll(socket string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if strings.HasSuffix(socket, "admin") {
		if _, err := client.DialAdmin(ctx, socket); err != nil {
			fmt.Println("dial:", err)
			return
		}
	}
	cc, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println("dial:", err)
		return
	}
	_, err = latchkeyv1.NewIdentityServiceClient(cc).GetUser(ctx, &latchkeyv1.GetUserRequest{Key: byName("alice")})
	fmt.Println("GetUser:", status.Code(err))
	_, err = latchkeyv1.NewAdminServiceClient(cc).GetStatus(ctx, &latchkeyv1.GetStatusRequest{})
	fmt.Println("GetStatus:", status.Code(err))
}

// Real users of the kernel, not played ones: ordinary, member of the admin
// group (primary and supplementary), root, root of a user namespace of its own.
func TestRealUsersOnRealSockets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	const admins = 64990
	dir, err := os.MkdirTemp("", "lk")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := memorytest.New()
	m.PutUser(person(1, "alice"))
	w := &work{}
	s := grpcapi.New(grpcapi.Config{
		Log: slog.New(slog.DiscardHandler), Policy: peer.NewPolicy(peer.Members{AdminGroups: []identity.GID{admins}}),
		Directory: resolve.New(m, resolve.Presentation{}), Admin: grpcapi.Admin{Joiner: w, Leaver: w, Syncer: w, Statuser: w, Configurer: w},
	})
	for _, sock := range peer.Standard(filepath.Join(dir, "run"), admins) {
		sock.Path = strings.TrimSuffix(sock.Path, ".sock")
		ln, err := peer.Open(sock)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		if sock.Name == peer.API || sock.Name == peer.Admin {
			go func() { _ = s.Serve(ln) }()
		}
	}
	defer s.Stop(bg(t))

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "caller")
	text, err := os.ReadFile(exe)
	if err == nil {
		err = os.WriteFile(copied, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(door peer.Name, attr *syscall.SysProcAttr) string {
		cmd := exec.Command(copied)
		cmd.Env = []string{"GRPCAPI_TEST_CALL=" + filepath.Join(dir, "run", string(door))}
		cmd.SysProcAttr = attr
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("the caller ended with %v: %s", err, out)
		}
		return string(out)
	}
	as := func(uid, gid uint32, groups ...uint32) *syscall.SysProcAttr {
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	}
	namespaceRoot := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 64001, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 64001, Size: 1}},
	}
	const (
		lookup  = "GetUser: OK\nGetStatus: PermissionDenied\n"
		all     = "GetUser: OK\nGetStatus: OK\n"
		refused = "dial: "
	)
	for _, tc := range []struct {
		who  string
		attr *syscall.SysProcAttr
		door peer.Name
		want string
	}{
		{"an ordinary user", as(64001, 64001), peer.API, lookup},
		{"an ordinary user", as(64001, 64001), peer.Admin, refused},
		{"a member", as(64001, 64001, admins), peer.Admin, all},
		{"a member", as(64001, 64001, admins), peer.API, lookup},
		{"a member by primary group", as(64001, admins), peer.Admin, all},
		{"root, a container's too", as(0, 0), peer.API, lookup},
		{"root", as(0, 0), peer.Admin, all},
		{"a user in root's group", as(64001, 0, 0), peer.Admin, refused},
		{"root of a user namespace", namespaceRoot, peer.API, lookup},
		{"root of a user namespace", namespaceRoot, peer.Admin, refused},
	} {
		if got := run(tc.door, tc.attr); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s through %s:\n%swant %s", tc.who, tc.door, got, tc.want)
		}
	}

	// The file's mode kept them out so far; the table must, too.
	if err := os.Chmod(filepath.Join(dir, "run", "admin"), 0o666); err != nil {
		t.Fatal(err)
	}
	const tableRefuses = "GetUser: PermissionDenied\nGetStatus: PermissionDenied\n"
	for who, attr := range map[string]*syscall.SysProcAttr{"an ordinary user": as(64001, 64001), "a user in root's group": as(64001, 0, 0), "root of a user namespace": namespaceRoot} {
		got := run(peer.Admin, attr)
		if who == "root of a user namespace" && strings.HasPrefix(got, refused) {
			continue // its client does not trust a server whom it cannot name
		}
		if got != tableRefuses {
			t.Errorf("%s, past the mode:\n%swant %s", who, got, tableRefuses)
		}
	}
}
