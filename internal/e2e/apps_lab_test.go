// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/latchkey-nas/latchkey/internal/lab"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// appLayer is what the author of an app installs: Debian's Python and protoc with
// gRPC, and Node with gRPC's own packages.
func appLayer(t *testing.T) *lab.LayerSpec {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("testdata/apps", name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	return &lab.LayerSpec{Name: "apps", Packages: strings.Fields(`libprotobuf-dev nodejs npm protobuf-compiler-grpc python3-grpcio`),
		Manifest: read("package.json"), Lock: read("package-lock.json")}
}

// buildWhois builds the example in Go in a module of its own, as an author's would
// be, and returns the program.
func buildWhois(t *testing.T) string {
	t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for to, from := range map[string]string{"whois.go": "packaging/examples/whois.go", "go.sum": "go.sum"} {
		text, err := os.ReadFile(filepath.Join(top, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mod := "module whois\n\ngo 1.26\n\nrequire github.com/latchkey-nas/latchkey v0.0.0\n\nreplace github.com/latchkey-nas/latchkey => " + top + "\n"
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), "go", args...)
		c.Dir, c.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("build", "-o", "whois", ".")
	for dep := range strings.Lines(run("list", "-deps", ".")) {
		if strings.Contains(dep, "latchkey-nas") && strings.TrimSpace(dep) != "github.com/latchkey-nas/latchkey/proto/latchkey/v1" {
			t.Errorf("the API takes %s along", dep)
		}
	}
	return filepath.Join(dir, "whois")
}

// The examples of docs/apps.md do what they say, by the commands that stand in
// them, as an ordinary user of the NAS; and every .proto that is installed can be
// compiled with Debian's own protoc.
func TestExamplesForApps(t *testing.T) {
	s := beginOn(t, lab.DomainOptions{Population: lab.Population{Users: 60, Groups: 10}}, lab.BoxOptions{Layer: appLayer(t)})
	s.try(s.nas.CopyIn(s.ctx, buildWhois(t), "/usr/local/bin/whois", 0o755))
	s.sh(`useradd -m author && cd /home/author && cp /usr/share/doc/latchkey/examples/whois.* /usr/share/doc/latchkey/examples/signin.py . && ln -s ` + lab.NodeDir + `/node_modules . && chown -Rh author: .`)
	run := func(command string) (string, int) {
		t.Helper()
		c := s.nas.Command("sh", "-ec", "exec 2>&1; "+command)
		c.User, c.Dir = "author", "/home/author"
		r, err := c.Run(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return r.Stdout, r.Exit
	}
	manual, err := os.ReadFile("../../docs/apps.md")
	s.try(err)
	_, manual, _ = bytes.Cut(manual, []byte("\n## One call\n"))
	manual, _, _ = bytes.Cut(manual, []byte("\n## "))
	// typed are the commands that the manual shows around one, but for what
	// installs packages. The example itself shows the same.
	typed := func(file, around string) (all string) {
		t.Helper()
		example, err := s.nas.ReadFile(s.ctx, "/home/author/"+file)
		s.try(err)
		for block := range strings.SplitSeq(string(manual), "\n\n") {
			if !strings.HasPrefix(block, "    ") || !strings.Contains(block, around) {
				continue
			}
			for line := range strings.Lines(block + "\n") {
				if line = line[len("    "):]; !strings.HasPrefix(line, "cp ") && !strings.Contains(string(example), line) {
					t.Errorf("%s does not show %s", file, line)
				}
				if packages, ok := strings.CutPrefix(line, "apt install "); ok {
					for name := range strings.FieldsSeq(packages) {
						if !slices.Contains(appLayer(t).Packages, name) {
							t.Errorf("%s is not what the test has installed", name)
						}
					}
				}
				if !strings.HasPrefix(line, "apt ") && !strings.HasPrefix(line, "npm ") {
					all += line
				}
			}
		}
		return all
	}
	programs := map[string]string{"Python": typed("whois.py", "python3 whois.py"), "Node": typed("whois.js", "node whois.js"), "Go": "whois alice"}

	for language, command := range programs {
		if out, exit := run(command); exit != 1 || !strings.Contains(out, "alice: ") || !strings.Contains(strings.ToUpper(out), "UNAVAILABLE") || !strings.Contains(out, "UNREACHABLE") {
			t.Errorf("%s, before the join: exit status %d\n%s", language, exit, out)
		}
	}
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	name := lab.UserName(1)
	var u user
	s.try(s.nas.JSON(s.ctx, &u, "user", "get", name))
	saw := map[string]string{}
	for language, command := range programs {
		out, exit := run(strings.ReplaceAll(command, "alice", name))
		if saw[out] = language; exit != 0 || !strings.HasPrefix(out, u.Username+": ") || !strings.Contains(out, u.SID) || !strings.Contains(out, "\n  domain users\n") {
			t.Errorf("%s: exit status %d\n%s", language, exit, out)
		}
		if out, exit = run(strings.ReplaceAll(command, "alice", "nobody-at-all")); exit != 1 || !strings.Contains(out, "no such user or group") || !strings.Contains(out, "NOT_FOUND") {
			t.Errorf("%s, of nobody: exit status %d\n%s", language, exit, out)
		}
	}
	if len(saw) != 1 {
		t.Errorf("the languages do not agree: %q", saw)
	}

	// A password, as the author of an app tries it: refused until the administrator
	// has said that this account may, and that the service is open.
	example, err := s.nas.ReadFile(s.ctx, "/home/author/signin.py")
	s.try(err)
	var steps string
	for line := range strings.Lines(string(example)) {
		if line, ok := strings.CutPrefix(line, "#     "); ok {
			steps += strings.ReplaceAll(line, "alice", name)
		}
	}
	signIn := func(password, want string) {
		t.Helper()
		if out, _ := run("printf '%s\\n' '" + password + "' | { " + steps + "\n}"); !strings.Contains(out, want) {
			t.Errorf("want %q of\n%s", want, out)
		}
	}
	signIn(lab.UserPassword(1), "You may not use this app.")
	s.sh(`mkdir -p /etc/latchkey && printf 'version = 1\n[api]\nauthenticators = ["author"]\n' >/etc/latchkey/latchkey.toml && kill -HUP $(pgrep -f '[l]atchkeyd run')`)
	s.cli(0, "access", "allow", "photos", "*")
	s.waitFor("the settings count", func() bool {
		out, _ := run("echo wrong | python3 signin.py " + name)
		return strings.Contains(out, "The name or the password is wrong.")
	})
	signIn(lab.UserPassword(1), name+" is in: "+u.OID)

	s.sh(`mkdir -p /tmp/all && cd /usr/share/latchkey/proto && protoc -I . --cpp_out=/tmp/all --python_out=/tmp/all $(find . -name '*.proto')`)
}

// A client with the service config of docs/apps.md never hears that the worker was
// killed under its calls.
func TestAppsDoNotNoticeAKilledWorker(t *testing.T) {
	s := begin(t, lab.Population{Users: 20, Groups: 5})
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	manual, err := os.ReadFile("../../docs/apps.md")
	s.try(err)
	_, rest, _ := strings.Cut(string(manual), "```json\n")
	config, _, _ := strings.Cut(rest, "```")
	cc := s.dial("api.sock", grpc.WithDefaultServiceConfig(config))
	people := latchkeyv1.NewIdentityServiceClient(cc)
	stop := make(chan struct{})
	var apps sync.WaitGroup
	var calls atomic.Int64
	for range 4 {
		apps.Go(func() {
			for ; ; calls.Add(1) {
				select {
				case <-stop:
					return
				default:
				}
				_, err := people.GetUser(s.ctx, &latchkeyv1.GetUserRequest{Key: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: lab.UserName(1)}}})
				if err != nil {
					t.Errorf("after %d calls: %v", calls.Load(), err)
					return
				}
			}
		})
	}
	for range 5 {
		worker := s.worker()
		s.sh("kill -9 " + worker)
		s.waitFor("another worker", func() bool { now := s.sh("pgrep -f '[l]atchkeyd worker' || true"); return now != "" && now != worker })
		before := calls.Load()
		s.waitFor("calls go on", func() bool { return t.Failed() || calls.Load() > before+100 })
	}
	close(stop)
	apps.Wait()
	if watch := cc.GetMethodConfig(latchkeyv1.IdentityService_WatchIdentities_FullMethodName); watch.Timeout != nil {
		t.Errorf("a watch would end after %v", *watch.Timeout)
	}
}
