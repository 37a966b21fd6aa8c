// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (f *fake) RotateMachineKey(_ *latchkeyv1.RotateMachineKeyRequest, s grpc.ServerStreamingServer[latchkeyv1.RotateMachineKeyResponse]) error {
	step := &latchkeyv1.Step{Id: "change", Title: "Change the password of NAS$", State: latchkeyv1.Step_STATE_DONE, Detail: "by kpasswd", Percent: 68}
	if f.fail != nil {
		step.State, step.Detail, step.Remedy = latchkeyv1.Step_STATE_FAILED, f.fail.Error(), fault.Remedy(f.fail)
	}
	if err := s.Send(&latchkeyv1.RotateMachineKeyResponse{Step: step}); err != nil || f.fail != nil {
		return errors.Join(err, f.fail)
	}
	return s.Send(&latchkeyv1.RotateMachineKeyResponse{Rotation: &latchkeyv1.RotateMachineKeyResponse_Rotation{KeyVersion: 3, KeyTime: ago(0),
		NextTime: timestamppb.New(noon.Add(28 * 24 * time.Hour)), DomainController: "dc1.aadds.contoso.test", Resumed: f.status.GetWorkerRestarts() > 0}})
}

func (f *fake) ExportIds(_ *latchkeyv1.ExportIdsRequest, s grpc.ServerStreamingServer[latchkeyv1.ExportIdsResponse]) error {
	if f.fail != nil {
		return f.fail
	}
	if err := s.Send(&latchkeyv1.ExportIdsResponse{Header: &latchkeyv1.IdsHeader{Domain: "aadds.contoso.test", DomainSid: "S-1-5-21-1-2-3", Method: "rid", Base: 100000001, Size: 100000000},
		Entries: []*latchkeyv1.IdEntry{{Kind: latchkeyv1.IdEntry_KIND_USER, Id: 100001104, Sid: "S-1-5-21-1-2-3-1103", Oid: "11111111-2222-3333-4444-555555555555", Name: "alice"}}}); err != nil {
		return err
	}
	return s.Send(&latchkeyv1.ExportIdsResponse{Entries: []*latchkeyv1.IdEntry{{Kind: latchkeyv1.IdEntry_KIND_GROUP, Id: 200000000, Sid: "S-1-5-32-544", Name: `BUILTIN\Administrators`},
		{Kind: latchkeyv1.IdEntry_KIND_USER, Id: 100001109, Sid: "S-1-5-21-1-2-3-1108", Name: "zoë", Gone: true}}})
}

func (f *fake) ImportIds(s grpc.ClientStreamingServer[latchkeyv1.ImportIdsRequest, latchkeyv1.ImportIdsResponse]) error {
	all := &latchkeyv1.ImportIdsRequest{}
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if r.GetHeader() != nil {
			all.Header, all.DryRun = r.GetHeader(), r.GetDryRun()
		}
		all.Entries = append(all.Entries, r.GetEntries()...)
	}
	f.seen("", all)
	if f.fail != nil {
		return f.fail
	}
	resp := &latchkeyv1.ImportIdsResponse{Same: 1, Kept: 1, ChangeCount: 1,
		Changes: []*latchkeyv1.ImportIdsResponse_Change{{Entry: all.GetEntries()[0], OldId: 101001104}}}
	if all.GetEntries()[0].GetId() == 7 {
		resp = &latchkeyv1.ImportIdsResponse{ConflictCount: 1, Conflicts: []*latchkeyv1.ImportIdsResponse_Conflict{{Entry: all.GetEntries()[0], Reason: "the number lies outside of this machine's range"}}}
	}
	return s.SendAndClose(resp)
}

func (f *fake) ReadAudit(r *latchkeyv1.ReadAuditRequest, s grpc.ServerStreamingServer[latchkeyv1.ReadAuditResponse]) error {
	f.seen("", r)
	if r.GetUser() == "ghost" {
		return nil
	}
	if r.GetFollow() {
		defer func() { <-s.Context().Done() }()
	}
	return s.Send(&latchkeyv1.ReadAuditResponse{Events: []*latchkeyv1.AuditEvent{
		{Time: ago(time.Hour), Id: "0123456789abcdef", Action: "sign-in", Outcome: "allowed", Door: "pam", Service: "sshd", Asked: `CONTOSO\Alice`, RemoteHost: "10.1.2.3",
			Name: "alice", Account: "Alice", Uid: 100001104, How: "kerberos", Sent: true, Milliseconds: 31.5},
		{Time: ago(time.Minute), Id: "0123456789abcdee", Action: "sign-in", Outcome: "refused", Reason: "bad credential", Detail: "sign in to the domain: KDC_ERR_PREAUTH_FAILED",
			Service: "samba-with-a-long-name", Asked: "al\x1b[2Jice", RemoteHost: "fe80::1", Name: "alice", Sent: true},
		{Time: ago(0), Action: "sign-in", Outcome: "refused", Reason: "not found", Asked: "nobody at all", Tty: "tty1"},
		{Time: ago(0), Action: "config-set", Outcome: "allowed", Detail: "samba.pipes = true", Door: "grpc", Caller: "uid 0, pid 4711"},
		{Time: ago(0), Action: "access-rule", Outcome: "allowed", Service: "sshd", Name: "alice", Rule: "allow sshd alice", Caller: "uid 1000, pid 4712"}}})
}

func (f *fake) RecordFiles(_ context.Context, r *latchkeyv1.RecordFilesRequest) (*latchkeyv1.RecordFilesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files = append(f.files, r.GetWhat()+": "+strings.Join(r.GetFiles(), ", "))
	return &latchkeyv1.RecordFilesResponse{}, nil
}

func (f *fake) ListSshKeys(_ context.Context, r *latchkeyv1.ListSshKeysRequest) (*latchkeyv1.ListSshKeysResponse, error) {
	if r.GetUser().GetName() != "alice" {
		return nil, nobody
	}
	return &latchkeyv1.ListSshKeysResponse{Keys: []string{"ssh-ed25519 AAAAC3Nz", "ssh-rsa AAAAB3Nz"}}, nil
}

// sudoBox gives the bench a machine with sudo, whose visudo says what it is told.
func (b *bench) sudoBox(t *testing.T, says error) {
	t.Helper()
	etc := filepath.Join(b.krb5.Root, "etc")
	if err := os.MkdirAll(etc+"/sudoers.d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(etc+"/sudoers", []byte("@includedir /etc/sudoers.d\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	b.tool = func(_ context.Context, name string, args ...string) (string, error) {
		if name != "visudo" {
			return "", fmt.Errorf("%s is not installed", name)
		}
		if len(args) > 2 {
			return "", says
		}
		return "", nil
	}
}

func TestImportReachesTheDaemonWhole(t *testing.T) {
	b := newBench(t)
	file := filepath.Join(t.TempDir(), "ids.jsonl")
	if text, exit := b.run("ids", "export", file); exit != 0 || !strings.Contains(text, "3 numbers in") {
		t.Fatal(text)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, exit := b.run("ids", "import", file, "--dry-run")
	if exit != 0 {
		t.Fatal(text)
	}
	got, ok := b.daemon.last.(*latchkeyv1.ImportIdsRequest)
	if !ok || !got.GetDryRun() || len(got.GetEntries()) != 3 || got.GetHeader().GetBase() != 100000001 || !got.GetEntries()[2].GetGone() ||
		got.GetEntries()[0].GetOid() == "" || got.GetEntries()[1].GetKind() != latchkeyv1.IdEntry_KIND_GROUP || got.GetEntries()[2].GetName() != "zoë" {
		t.Errorf("the daemon was sent %v", got)
	}
	// An export that fails leaves the file of before.
	b.daemon.fail = fault.New(fault.Conflict, "this machine is in no domain")
	before, _ := os.ReadFile(file)
	if text, exit := b.run("ids", "export", file); exit != 4 {
		t.Error(text)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the file became %q, %v", after, err)
	}
}

func FuzzReadIds(f *testing.F) {
	f.Add(`{"latchkey_ids":1,"domain_sid":"S-1-5-21-1-2-3","method":"rid","base":1,"size":2}` + "\n" + `{"kind":"user","id":5,"sid":"S-1-5-21-1-2-3-4"}` + "\n")
	f.Add("{}\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		header, entries, err := readIds(strings.NewReader(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") || fault.Remedy(err) == "" {
				t.Errorf("says %q", err)
			}
			return
		}
		if header == nil || len(entries) > strings.Count(text, "\n")+1 {
			t.Errorf("%d entries, header %v", len(entries), header)
		}
	})
}

func TestSince(t *testing.T) {
	time.Local = time.UTC
	for text, want := range map[string]time.Time{
		"2026-11-20": time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), "2026-11-20 10:30": time.Date(2026, 11, 20, 10, 30, 0, 0, time.UTC),
		"2026-11-20T10:30:00Z": time.Date(2026, 11, 20, 10, 30, 0, 0, time.UTC), "90m": noon.Add(-90 * time.Minute), "3d": noon.Add(-72 * time.Hour),
	} {
		if got, err := parseSince(text, noon); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-1d", "-3h", "3 d", "1.5d", "d", "999999d"} {
		if got, err := parseSince(text, noon); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
