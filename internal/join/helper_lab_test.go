// SPDX-License-Identifier: Apache-2.0

//go:build lab

package join

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// The joins of these tests run in a box, in a process of its own: this test
// program, started there with helperEnv set. It reads one task and prints one
// outcome.
const helperEnv = "LATCHKEY_JOIN_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "" {
		os.Exit(m.Run())
	}
	if err := help(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type task struct {
	Verb     string // check, join, leave, krb5-apply, krb5-remove
	Join     Request
	Leave    LeaveRequest
	Password string
	Settings krb5conf.Settings
	KillAt   string // die by SIGKILL when this step is done
}

type outcome struct {
	Steps      []Step
	Membership *Membership
	Kind       fault.Kind
	Error      string
	Remedy     string
	Log        string
}

// step returns the last word on a step.
func (o *outcome) step(id string) Step {
	for i := len(o.Steps) - 1; i >= 0; i-- {
		if o.Steps[i].ID == id {
			return o.Steps[i]
		}
	}
	return Step{}
}

func (o *outcome) String() string {
	var b strings.Builder
	for _, s := range o.Steps {
		if s.State != Running {
			fmt.Fprintf(&b, "%3d%% %-8s %-14s %s: %s", s.Percent, s.State, s.ID, s.Title, s.Detail)
			if s.Remedy != "" {
				fmt.Fprintf(&b, " -> %s", s.Remedy)
			}
			b.WriteByte('\n')
		}
	}
	if o.Error != "" {
		fmt.Fprintf(&b, "%s: %s\n-> %s\n", o.Kind, o.Error, o.Remedy)
	}
	return b.String()
}

const (
	boxState  = "/var/lib/latchkey"
	boxKeytab = boxState + "/krb5.keytab"
	boxHelper = "/usr/local/bin/join-helper"
)

func help() error {
	var t task
	if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := os.MkdirAll(boxState, 0o711); err != nil {
		return err
	}
	memory, err := store.Open(ctx, boxState+"/latchkey.db", store.Options{})
	if err != nil {
		return err
	}
	defer memory.Close()
	var log bytes.Buffer
	j := New(Config{Memory: memory, KeytabPath: boxKeytab, HostKeys: rootKeys{},
		OperatingSystem: "latchkey", OperatingSystemVersion: "test", Log: slog.New(slog.NewJSONHandler(&log, nil))})
	var o outcome
	tell := func(s Step) {
		o.Steps = append(o.Steps, s)
		if s.ID == t.KillAt && s.State != Running {
			p, _ := os.FindProcess(os.Getpid())
			_ = p.Kill()
			select {}
		}
	}
	switch t.Verb {
	case "check":
		t.Join.Password = secret.FromString(t.Password)
		err = j.Check(ctx, t.Join, tell)
	case "join":
		t.Join.Password = secret.FromString(t.Password)
		o.Membership, err = j.Join(ctx, t.Join, tell)
	case "leave":
		t.Leave.Password = secret.FromString(t.Password)
		err = j.Leave(ctx, t.Leave, tell)
	case "krb5-apply":
		_, err = krb5conf.Files{}.Apply(t.Settings)
	case "krb5-remove":
		_, err = krb5conf.Files{}.Remove()
	default:
		err = fmt.Errorf("no such verb: %q", t.Verb)
	}
	o.Log = log.String()
	if err != nil {
		o.Kind, o.Error, o.Remedy = fault.KindOf(err), err.Error(), fault.Remedy(err)
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

// rootKeys does what the monitor does.
type rootKeys struct{}

func (rootKeys) Install(_ context.Context, k krb5conf.HostKeys) error {
	return krb5conf.Files{}.InstallHostKeys(k)
}

func (rootKeys) Remove(_ context.Context, h krb5conf.Host) error {
	return krb5conf.Files{}.RemoveHostKeys(h)
}

// nas starts a box that can join.
func nas(t *testing.T, d *lab.Domain, name string, o lab.BoxOptions) *lab.Box {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Binds = append(o.Binds, lab.Bind{Host: self, Inside: boxHelper})
	return d.StartBox(t, name, o)
}

// do runs one task in a box.
func do(t *testing.T, box *lab.Box, what task) *outcome {
	t.Helper()
	in, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	c := box.Command(boxHelper)
	c.Env = []string{helperEnv + "=1"}
	c.Stdin = bytes.NewReader(in)
	res, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var o outcome
	if what.KillAt != "" {
		if res.Signal == 0 {
			t.Fatalf("the helper was not killed at %s: %s", what.KillAt, res)
		}
		return &o
	}
	if err := json.Unmarshal([]byte(res.Stdout), &o); err != nil {
		t.Fatalf("%v\n%s", err, res)
	}
	if what.Password != "" {
		if all := res.Stdout + res.Stderr; strings.Contains(all, what.Password) {
			t.Errorf("the password is told:\n%s", all)
		}
	}
	return &o
}

// join is what an administrator types.
func joinTask(d *lab.Domain, edit func(*task)) task {
	t := task{Verb: "join", Password: lab.JoinPassword, Join: Request{Domain: d.DNS, User: lab.JoinUser, DNSServers: []string{d.DC.IP()}}}
	if edit != nil {
		edit(&t)
	}
	return t
}

// mustJoin joins and fails the test when that fails.
func mustJoin(t *testing.T, d *lab.Domain, box *lab.Box, edit func(*task)) *outcome {
	t.Helper()
	o := do(t, box, joinTask(d, edit))
	if o.Error != "" {
		t.Fatalf("join:\n%s", o)
	}
	return o
}
