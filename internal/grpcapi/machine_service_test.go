// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// keeper is a machine that says what it was asked.
type keeper struct {
	fail    error
	entries int
	dryRun  bool
}

func (k *keeper) Rotate(_ context.Context, progress grpcapi.Progress) (*latchkeyv1.RotateMachineKeyResponse_Rotation, error) {
	progress(&latchkeyv1.Step{Id: "change"})
	if k.fail != nil {
		return nil, k.fail
	}
	return &latchkeyv1.RotateMachineKeyResponse_Rotation{KeyVersion: 3}, nil
}

func (k *keeper) ExportIDs(_ context.Context, send func(*latchkeyv1.ExportIdsResponse) error) error {
	return errors.Join(k.fail, send(&latchkeyv1.ExportIdsResponse{Header: &latchkeyv1.IdsHeader{Domain: "d"}}))
}

func (k *keeper) ImportIDs(_ context.Context, _ *latchkeyv1.IdsHeader, entries []*latchkeyv1.IdEntry, dryRun bool) (*latchkeyv1.ImportIdsResponse, error) {
	k.entries, k.dryRun = len(entries), dryRun
	return &latchkeyv1.ImportIdsResponse{Same: int64(len(entries))}, k.fail
}

func (k *keeper) ReadAudit(_ context.Context, _ *latchkeyv1.ReadAuditRequest, send func([]*latchkeyv1.AuditEvent) error) error {
	return errors.Join(k.fail, send([]*latchkeyv1.AuditEvent{{Id: "1"}, {Id: "2"}}))
}

func TestMachineService(t *testing.T) {
	b := open(t, peer.Limits{})
	c := latchkeyv1.NewMachineServiceClient(b.dial(peer.Admin, admin))
	ctx := bg(t)
	k := b.machine

	rotate, err := c.RotateMachineKey(ctx, &latchkeyv1.RotateMachineKeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := rotate.Recv()
	if err != nil || first.GetStep().GetId() != "change" {
		t.Errorf("first %v, %v", first, err)
	}
	last, err := rotate.Recv()
	if err != nil || last.GetRotation().GetKeyVersion() != 3 {
		t.Errorf("last %v, %v", last, err)
	}

	send := func(requests ...*latchkeyv1.ImportIdsRequest) (*latchkeyv1.ImportIdsResponse, error) {
		t.Helper()
		s, err := c.ImportIds(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range requests {
			if err := s.Send(r); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		return s.CloseAndRecv()
	}
	two := []*latchkeyv1.IdEntry{{Id: 1}, {Id: 2}}
	resp, err := send(&latchkeyv1.ImportIdsRequest{Header: &latchkeyv1.IdsHeader{}, DryRun: true, Entries: two}, &latchkeyv1.ImportIdsRequest{Entries: two})
	if err != nil || resp.GetSame() != 4 || k.entries != 4 || !k.dryRun {
		t.Errorf("import: %v, %v, %d entries, dry run %v", resp, err, k.entries, k.dryRun)
	}
	_, err = send(&latchkeyv1.ImportIdsRequest{Entries: two})
	want(t, "import without a header", err, codes.InvalidArgument, "MALFORMED")
	_, err = send()
	want(t, "import of nothing", err, codes.InvalidArgument, "MALFORMED")

	for name, r := range map[string]*latchkeyv1.ReadAuditRequest{"outcome": {Outcome: "good"}, "last": {Last: -1}, "user": {User: string(make([]byte, 2000))}} {
		s, err := c.ReadAudit(ctx, r)
		if err == nil {
			_, err = s.Recv()
		}
		want(t, name, err, codes.InvalidArgument, "MALFORMED")
	}
	read, err := c.ReadAudit(ctx, &latchkeyv1.ReadAuditRequest{Outcome: "refused"})
	if err != nil {
		t.Fatal(err)
	}
	if events, err := read.Recv(); err != nil || len(events.GetEvents()) != 2 {
		t.Errorf("audit: %v, %v", events, err)
	}
	export, err := c.ExportIds(ctx, &latchkeyv1.ExportIdsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := export.Recv(); err != nil || r.GetHeader().GetDomain() != "d" {
		t.Errorf("export: %v, %v", r, err)
	}

	k.fail = fault.New(fault.Conflict, "in no domain")
	rotate, err = c.RotateMachineKey(ctx, &latchkeyv1.RotateMachineKeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = rotate.Recv()
	}
	want(t, "rotate in no domain", err, codes.FailedPrecondition, "CONFLICT")
}

func TestSshKeysAreNotTheDisabled(t *testing.T) {
	b := open(t, peer.Limits{})
	alice, bob := person(1, "alice"), person(2, "bob")
	alice.SSHKeys, bob.SSHKeys = []string{"ssh-ed25519 AAAA"}, []string{"ssh-ed25519 BBBB"}
	bob.State = 1 // disabled
	b.memory.PutUser(alice, bob)
	c := latchkeyv1.NewIdentityServiceClient(b.dial(peer.API, stranger))
	ask := func(name string) ([]string, error) {
		r, err := c.ListSshKeys(bg(t), &latchkeyv1.ListSshKeysRequest{User: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: name}}})
		return r.GetKeys(), err
	}
	if keys, err := ask("ALICE"); err != nil || len(keys) != 1 || keys[0] != "ssh-ed25519 AAAA" {
		t.Errorf("alice: %q, %v", keys, err)
	}
	if keys, err := ask("bob"); err != nil || len(keys) != 0 {
		t.Errorf("bob: %q, %v", keys, err)
	}
	_, err := ask("nobody")
	want(t, "nobody", err, codes.NotFound, "NOT_FOUND")
	_, err = c.ListSshKeys(bg(t), &latchkeyv1.ListSshKeysRequest{})
	want(t, "no key", err, codes.InvalidArgument, "MALFORMED")
}
