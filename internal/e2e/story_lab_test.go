// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
)

// story is a domain with people and a NAS with the daemon running.
type story struct {
	t      *testing.T
	ctx    context.Context
	domain *lab.Domain
	nas    *nas.NAS
}

// begin starts a domain and a NAS that is in none.
func begin(t *testing.T, people lab.Population) *story {
	t.Helper()
	return beginWith(t, lab.DomainOptions{Population: people})
}

// beginWith is begin with any domain.
func beginWith(t *testing.T, options lab.DomainOptions) *story {
	t.Helper()
	return beginOn(t, options, lab.BoxOptions{})
}

// beginOn is begin with any domain and any box.
func beginOn(t *testing.T, options lab.DomainOptions, box lab.BoxOptions) *story {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	s := &story{t: t, ctx: ctx, domain: lab.Start(t, options)}
	n, err := nas.Install(ctx, s.domain.StartBox(t, "nas1", box))
	if err != nil {
		t.Fatal(err)
	}
	s.nas = n
	if err := n.Start(ctx, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", s.log())
		}
	})
	return s
}

func (s *story) log() string {
	text, err := s.nas.ReadFile(context.WithoutCancel(s.ctx), "/var/log/latchkeyd.log")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// cli runs `latchkey ARGS`, which has to end with the status.
func (s *story) cli(exit int, args ...string) *lab.Result {
	s.t.Helper()
	r, err := s.nas.CLI(s.ctx, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	if r.Exit != exit {
		s.t.Errorf("latchkey %s: exit status %d, want %d\n%s", strings.Join(args, " "), r.Exit, exit, r)
	}
	return r
}

// sh runs a shell command on the NAS, which has to succeed.
func (s *story) sh(command string) string {
	s.t.Helper()
	out, err := s.nas.Output(s.ctx, "sh", "-c", command)
	if err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(out)
}

func (s *story) waitFor(what string, condition func() bool) {
	s.t.Helper()
	for !condition() {
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("waited in vain: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// user is what `latchkey user get --json` says, as far as the tests look.
type user struct {
	Name     string `json:"name"`
	Username string `json:"username"`
	UID      uint32 `json:"uid"`
	GID      uint32 `json:"gid"`
	SID      string `json:"sid"`
	OID      string `json:"oid"`
	UPN      string `json:"user_principal_name"`
	Home     string `json:"home"`
	Shell    string `json:"shell"`
}

type status struct {
	Health   string `json:"health"`
	Domain   string `json:"domain"`
	Computer string `json:"computer_account"`
	DC       string `json:"domain_controller"`
	Complete bool   `json:"mirror_complete"`
	Users    int    `json:"users"`
	Groups   int    `json:"groups"`
	Restarts int    `json:"worker_restarts"`
	People   string `json:"people"`
	Key      int    `json:"key_version"`
	Problems []struct {
		ID      string `json:"id"`
		Summary string `json:"summary"`
	} `json:"problems"`
}

func (s *story) status() (st status) {
	s.t.Helper()
	r, err := s.nas.CLI(s.ctx, "status", "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(r.Stdout), &st); err != nil {
		s.t.Fatalf("status: %v\n%s", err, r)
	}
	return st
}

// worker returns the pid of the half without privilege.
func (s *story) worker() string {
	s.t.Helper()
	return s.sh("pgrep -f '[l]atchkeyd worker'")
}

// stop ends the daemon and waits for it.
func (s *story) stop(monitor string) {
	s.t.Helper()
	s.sh("kill -TERM " + monitor)
	s.waitFor("the daemon ends", func() bool {
		r, err := s.nas.Run(s.ctx, "pgrep", "-f", "[l]atchkeyd (run|worker)")
		return err == nil && r.Exit == 1
	})
}
