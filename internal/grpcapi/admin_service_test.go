// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func TestJoinPassesEverythingOnAndStreamsProgress(t *testing.T) {
	b := open(t, peer.Limits{})
	var got grpcapi.JoinRequest
	var typed string
	b.work.join = func(_ context.Context, req grpcapi.JoinRequest, tell grpcapi.Progress) (*latchkeyv1.JoinResponse_Membership, error) {
		got, typed = req, string(req.Password.Reveal())
		for i := range 3 {
			tell(&latchkeyv1.Step{Id: fmt.Sprint("step", i)})
		}
		tell(nil)
		return &latchkeyv1.JoinResponse_Membership{Domain: req.Domain}, nil
	}
	s, err := b.admin().Join(bg(t), &latchkeyv1.JoinRequest{Domain: "d.test", User: `D\u`, Password: []byte("Passw0rd!"),
		DomainControllers: []string{"dc1"}, DnsServers: []string{"10.0.0.1"}, OrganizationalUnit: "OU=x", Hostname: "nas", TenantId: "t",
		People: latchkeyv1.People_PEOPLE_HYBRID, CheckOnly: true, NoDnsUpdate: true})
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	var made *latchkeyv1.JoinResponse_Membership
	for {
		m, err := s.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.GetStep() != nil {
			steps = append(steps, m.GetStep().GetId())
		}
		made = m.GetMembership()
	}
	if !slices.Equal(steps, []string{"step0", "step1", "step2"}) || made.GetDomain() != "d.test" {
		t.Errorf("steps %q, membership %v", steps, made)
	}
	password := got.Password
	got.Password = secret.Bytes{}
	want := grpcapi.JoinRequest{Domain: "d.test", User: `D\u`, DomainControllers: []string{"dc1"}, DNSServers: []string{"10.0.0.1"},
		OrganizationalUnit: "OU=x", Hostname: "nas", TenantID: "t", People: latchkeyv1.People_PEOPLE_HYBRID, CheckOnly: true, NoDNSUpdate: true}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || typed != "Passw0rd!" {
		t.Errorf("the work got %+v", got)
	}
	if !password.Equal(secret.Own(make([]byte, 9))) {
		t.Error("the password is still in memory after the call")
	}
	if strings.Contains(b.log.String(), "Passw0rd") {
		t.Error("the password is in the log")
	}
}

func TestAdministratorsAreToldWhatFailedAndWhatToDo(t *testing.T) {
	b := open(t, peer.Limits{})
	failure := fault.WithRemedy(fault.Wrap(fault.Unreachable, "find a domain controller", errors.New("no SRV record for d.test")), "set --dns")
	b.work.join = func(context.Context, grpcapi.JoinRequest, grpcapi.Progress) (*latchkeyv1.JoinResponse_Membership, error) {
		return nil, failure
	}
	b.work.leave = func(context.Context, grpcapi.LeaveRequest, grpcapi.Progress) error { return failure }
	b.work.sync = func(context.Context, grpcapi.SyncRequest, grpcapi.Progress) (*latchkeyv1.SyncResponse_Result, error) {
		return nil, failure
	}
	b.work.status = func() (*latchkeyv1.Status, error) { return nil, failure }
	b.work.config = func(string, string) error { return failure }
	c := b.admin()
	for name, call := range map[string]func() error{
		"join":   func() error { s, err := c.Join(bg(t), &latchkeyv1.JoinRequest{}); return last(s, err) },
		"leave":  func() error { s, err := c.Leave(bg(t), &latchkeyv1.LeaveRequest{}); return last(s, err) },
		"sync":   func() error { s, err := c.Sync(bg(t), &latchkeyv1.SyncRequest{}); return last(s, err) },
		"status": func() error { _, err := c.GetStatus(bg(t), &latchkeyv1.GetStatusRequest{}); return err },
		"config": func() error { _, err := c.SetConfig(bg(t), &latchkeyv1.SetConfigRequest{Key: "a.b"}); return err },
	} {
		st := want(t, name, call(), codes.Unavailable, "UNREACHABLE")
		if st.Message() != "find a domain controller: no SRV record for d.test" || remedyOf(st) != "set --dns" {
			t.Errorf("%s: %q, remedy %q", name, st.Message(), remedyOf(st))
		}
	}
	_, err := c.SetConfig(bg(t), &latchkeyv1.SetConfigRequest{})
	want(t, "no key", err, codes.InvalidArgument, "MALFORMED")
}

// last reads a stream to its end and returns its error.
func last[M any](s interface{ Recv() (*M, error) }, err error) error {
	for err == nil {
		_, err = s.Recv()
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func TestAClientThatGoesAwayEndsTheWork(t *testing.T) {
	b := open(t, peer.Limits{})
	ended := make(chan error, 1)
	b.work.sync = func(ctx context.Context, _ grpcapi.SyncRequest, tell grpcapi.Progress) (*latchkeyv1.SyncResponse_Result, error) {
		tell(&latchkeyv1.Step{Id: "begun"})
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(bg(t))
	s, err := b.admin().Sync(ctx, &latchkeyv1.SyncRequest{Full: true})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(); err != nil || m.GetStep().GetId() != "begun" {
		t.Fatal(m, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the work ended with %v", err)
	}
}

func TestSyncTellsItsResult(t *testing.T) {
	b := open(t, peer.Limits{})
	var got grpcapi.SyncRequest
	b.work.sync = func(_ context.Context, req grpcapi.SyncRequest, _ grpcapi.Progress) (*latchkeyv1.SyncResponse_Result, error) {
		got = req
		return &latchkeyv1.SyncResponse_Result{Read: 5}, nil
	}
	s, err := b.admin().Sync(bg(t), &latchkeyv1.SyncRequest{Full: true, AcceptDeletions: true})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(); err != nil || m.GetResult().GetRead() != 5 {
		t.Errorf("result = %v, %v", m, err)
	}
	if got != (grpcapi.SyncRequest{Full: true, AcceptDeletions: true}) {
		t.Errorf("the work got %+v", got)
	}
}

// Work may report from goroutines of its own, and late.
func TestProgressFromAnywhere(t *testing.T) {
	b := open(t, peer.Limits{})
	var late grpcapi.Progress
	b.work.leave = func(_ context.Context, _ grpcapi.LeaveRequest, tell grpcapi.Progress) error {
		late = tell
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 50 {
					tell(&latchkeyv1.Step{Id: "x"})
				}
			})
		}
		all.Wait()
		return nil
	}
	s, err := b.admin().Leave(bg(t), &latchkeyv1.LeaveRequest{KeepAccount: true})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		if _, err := s.Recv(); err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
		n++
	}
	if n != 400 {
		t.Errorf("%d steps, want 400", n)
	}
	late(&latchkeyv1.Step{Id: "too late"})
}

func TestStopEndsTasksAndWatches(t *testing.T) {
	b := open(t, peer.Limits{})
	begun := make(chan struct{})
	b.work.sync = func(ctx context.Context, _ grpcapi.SyncRequest, _ grpcapi.Progress) (*latchkeyv1.SyncResponse_Result, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s, err := b.admin().Sync(bg(t), &latchkeyv1.SyncRequest{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := b.identity(user).WatchIdentities(bg(t), &latchkeyv1.WatchIdentitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Recv(); err != nil {
		t.Fatal(err)
	}
	<-begun
	b.server.Stop(bg(t))
	want(t, "a task", last(s, nil), codes.Unavailable, "UNREACHABLE")
	want(t, "a watch", last(w, nil), codes.Unavailable, "UNREACHABLE")
}
