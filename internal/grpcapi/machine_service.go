// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Machine looks after what the machine is in its domain, the numbers that were
// given, and the record of what was attempted. Send functions may be called
// until the method returns; their error is the client's going away.
type Machine interface {
	// Rotate changes the machine's key.
	Rotate(ctx context.Context, progress Progress) (*latchkeyv1.RotateMachineKeyResponse_Rotation, error)
	// ExportIDs sends the header, then the entries.
	ExportIDs(ctx context.Context, send func(*latchkeyv1.ExportIdsResponse) error) error
	// ImportIDs takes all entries over, or none.
	ImportIDs(ctx context.Context, header *latchkeyv1.IdsHeader, entries []*latchkeyv1.IdEntry, dryRun bool) (*latchkeyv1.ImportIdsResponse, error)
	// ReadAudit sends the events that the request wants, oldest first.
	ReadAudit(ctx context.Context, req *latchkeyv1.ReadAuditRequest, send func([]*latchkeyv1.AuditEvent) error) error
}

// errNoMachine is what a daemon without a store answers.
var errNoMachine = fault.WithRemedy(fault.New(fault.Unreachable, "the store cannot be opened"), "see `latchkey status`")

// maxEntries bounds what one import may bring: it is held in memory.
const maxEntries = 2_000_000

// auditOutcomes are the words of ReadAuditRequest.outcome.
var auditOutcomes = []string{"", "allowed", "refused", "failed", "abandoned"}

type machineService struct {
	latchkeyv1.UnimplementedMachineServiceServer
	machine Machine // may be nil
	changes changes
}

func (s *machineService) RotateMachineKey(_ *latchkeyv1.RotateMachineKeyRequest, ss grpc.ServerStreamingServer[latchkeyv1.RotateMachineKeyResponse]) error {
	if s.machine == nil {
		return errNoMachine
	}
	p := newProgress(func(step *latchkeyv1.Step) { _ = ss.Send(&latchkeyv1.RotateMachineKeyResponse{Step: step}) })
	defer p.end()
	done, err := s.machine.Rotate(ss.Context(), p.tell)
	p.end()
	what := ""
	if err == nil {
		what = fmt.Sprintf("key version %d", done.GetKeyVersion())
	}
	s.changes.record(ss.Context(), latchkeyv1.MachineService_RotateMachineKey_FullMethodName, audit.Event{}, what, err)
	if err != nil {
		return err
	}
	return ss.Send(&latchkeyv1.RotateMachineKeyResponse{Rotation: done})
}

func (s *machineService) ExportIds(_ *latchkeyv1.ExportIdsRequest, ss grpc.ServerStreamingServer[latchkeyv1.ExportIdsResponse]) error {
	if s.machine == nil {
		return errNoMachine
	}
	return s.machine.ExportIDs(ss.Context(), ss.Send)
}

func (s *machineService) ImportIds(ss grpc.ClientStreamingServer[latchkeyv1.ImportIdsRequest, latchkeyv1.ImportIdsResponse]) error {
	if s.machine == nil {
		return errNoMachine
	}
	var header *latchkeyv1.IdsHeader
	var dryRun bool
	var entries []*latchkeyv1.IdEntry
	for {
		req, err := ss.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fault.Wrap(fault.Unreachable, "read the entries", err)
		}
		if header == nil {
			if header, dryRun = req.GetHeader(), req.GetDryRun(); header == nil {
				return bad("header", "is not in the first message")
			}
		}
		if len(entries)+len(req.GetEntries()) > maxEntries {
			return bad("entries", "are more than %d", maxEntries)
		}
		entries = append(entries, req.GetEntries()...)
	}
	if header == nil {
		return bad("header", "is missing")
	}
	resp, err := s.machine.ImportIDs(ss.Context(), header, entries, dryRun)
	if !dryRun {
		s.changes.record(ss.Context(), latchkeyv1.MachineService_ImportIds_FullMethodName, audit.Event{}, fmt.Sprintf("%d entries", len(entries)), err)
	}
	if err != nil {
		return err
	}
	return ss.SendAndClose(resp)
}

// Limits of RecordFiles: more than the command line ever changes at once.
const (
	maxFiles    = 32
	maxFileText = 256 // bytes of a path, and of what was done
)

func (s *machineService) RecordFiles(ctx context.Context, req *latchkeyv1.RecordFilesRequest) (*latchkeyv1.RecordFilesResponse, error) {
	switch files := req.GetFiles(); {
	case len(files) == 0 || len(files) > maxFiles:
		return nil, bad("files", "are %d, not 1 to %d", len(files), maxFiles)
	case slices.ContainsFunc(append(files, req.GetWhat()), func(text string) bool { return len(text) > maxFileText || text == "" }):
		return nil, bad("files", "or what was done is empty, or longer than %d bytes", maxFileText)
	}
	s.changes.record(ctx, latchkeyv1.MachineService_RecordFiles_FullMethodName, audit.Event{}, req.GetWhat()+": "+strings.Join(req.GetFiles(), ", "), nil)
	return &latchkeyv1.RecordFilesResponse{}, nil
}

func (s *machineService) ReadAudit(req *latchkeyv1.ReadAuditRequest, ss grpc.ServerStreamingServer[latchkeyv1.ReadAuditResponse]) error {
	switch {
	case s.machine == nil:
		return errNoMachine
	case !slices.Contains(auditOutcomes, req.GetOutcome()):
		return bad("outcome", "%.40q is none of allowed, refused, failed, abandoned", req.GetOutcome())
	case req.GetLast() < 0:
		return bad("last", "is negative")
	case len(req.GetUser()) > 1024:
		return bad("user", "is longer than 1024 bytes")
	}
	return s.machine.ReadAudit(ss.Context(), req, func(events []*latchkeyv1.AuditEvent) error {
		return ss.Send(&latchkeyv1.ReadAuditResponse{Events: events})
	})
}
