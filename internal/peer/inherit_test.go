// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// inheritingChild is what this test binary does as the worker of a test: it
// takes over its listeners and says its name to whoever connects.
func inheritingChild() {
	if pid := os.Getenv("PEER_TEST_CHILD"); pid == "own" {
		_ = os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	}
	all, err := Inherited()
	if err != nil {
		fmt.Println("error:", fault.KindOf(err), err)
		return
	}
	n := 0
	for name, list := range all {
		for _, ln := range list {
			n++
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = fmt.Fprintln(c, name)
					_ = c.Close()
				}
			}()
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	leaked := 0
	for _, fd := range fds {
		var n int
		if _, e := fmt.Sscan(fd.Name(), &n); e == nil && n > 2 {
			listening, _ := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
			flags, e := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
			if listening != 0 && (e != nil || flags&unix.FD_CLOEXEC == 0) {
				leaked++
			}
		}
	}
	fmt.Println("ready", n, leaked, os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES"), err)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

func child(t *testing.T, mode string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = []string{"PEER_TEST_CHILD=" + mode}
	cmd.Stderr = os.Stderr
	return cmd
}

func TestListenersGoToAChildByName(t *testing.T) {
	for _, mode := range []string{"no pid", "own"} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			all := Listeners{}
			for _, n := range []Name{Admin, API, Metrics} {
				s := at(filepath.Join(dir, string(n)))
				s.Name = n
				ln, err := Open(s)
				if err != nil {
					t.Fatal(err)
				}
				all[n] = append(all[n], ln)
			}
			for range 2 {
				ln, err := Open(Socket{Name: Web, Address: "127.0.0.1:0"})
				if err != nil {
					t.Fatal(err)
				}
				all[Web] = append(all[Web], ln)
			}
			defer all.Close()
			cmd := child(t, mode)
			done, err := all.HandOver(cmd)
			if err != nil {
				t.Fatal(err)
			}
			in, _ := cmd.StdinPipe()
			out, _ := cmd.StdoutPipe()
			err = cmd.Start()
			done()
			if err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(out).ReadString('\n')
			if want := "ready 5 0   <nil>\n"; line != want {
				t.Errorf("the child said %q, want %q", line, want)
			}
			for _, list := range all {
				for _, ln := range list {
					c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					said, _ := bufio.NewReader(c).ReadString('\n')
					if said != string(ln.Name())+"\n" {
						t.Errorf("%s is served as %q", ln.Name(), said)
					}
					_ = c.Close()
				}
			}
			_ = in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHandOverComesFirst(t *testing.T) {
	cmd := exec.Command("true")
	if _, err := (Listeners{}).HandOver(cmd); !fault.Is(err, fault.Internal) {
		t.Errorf("without an environment: %v", err)
	}
	cmd.Env, cmd.ExtraFiles = []string{}, []*os.File{os.Stdin}
	if _, err := (Listeners{}).HandOver(cmd); !fault.Is(err, fault.Internal) {
		t.Errorf("with other files: %v", err)
	}
}

func TestInheritedRefusesWhatIsNotAListener(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	tcpFile, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer tcpFile.Close()
	client, _ := pair(t)
	connected, err := client.File()
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	for name, tc := range map[string]struct {
		env   []string
		files []*os.File
		want  string
	}{
		"nothing":               {nil, nil, "ready 0 "},
		"another process's":     {[]string{"LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=api"}, nil, "ready 0 "},
		"no names":              {[]string{"LISTEN_FDS=1"}, []*os.File{file}, "error: malformed"},
		"a name of nobody":      {[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=latchkeyd.socket"}, []*os.File{file}, "error: malformed"},
		"a file":                {[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=api"}, []*os.File{file}, "error: malformed"},
		"a closed descriptor":   {[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=api"}, nil, "error: malformed"},
		"a connection":          {[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=api"}, []*os.File{connected}, "error: malformed"},
		"TCP under a Unix name": {[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=admin"}, []*os.File{tcpFile}, "error: malformed"},
		"too many":              {[]string{"LISTEN_FDS=99999", "LISTEN_FDNAMES=api"}, nil, "error: malformed"},
		"no number":             {[]string{"LISTEN_FDS=one", "LISTEN_FDNAMES=api"}, nil, "error: malformed"},
	} {
		cmd := child(t, "refuse")
		cmd.Env = append(cmd.Env, tc.env...)
		cmd.ExtraFiles = tc.files
		out, err := cmd.Output()
		if err != nil || !strings.HasPrefix(string(out), tc.want) {
			t.Errorf("%s: the child said %q, %v, want %q", name, out, err, tc.want)
		}
	}
}

func FuzzParseNames(f *testing.F) {
	f.Add("2", "api:admin")
	f.Add("0", "")
	f.Add("1", "web:")
	f.Fuzz(func(t *testing.T, count, names string) {
		list, err := parseNames(count, names)
		if err != nil {
			return
		}
		var words []string
		for _, n := range list {
			if !n.Known() {
				t.Fatalf("%q is no name", n)
			}
			words = append(words, string(n))
		}
		if len(list) > 0 && strings.Join(words, ":") != names {
			t.Fatalf("%q came back as %q", names, words)
		}
	})
}
