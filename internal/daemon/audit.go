// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"path/filepath"
	"strconv"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// auditFile is where the events are.
func (o Options) auditFile() string {
	if o.AuditFile != "" {
		return o.AuditFile
	}
	return filepath.Join(config.LogDir, "audit.jsonl")
}

// ReadAudit sends the events that are asked for, and with follow goes on.
func (d *Daemon) ReadAudit(ctx context.Context, req *latchkeyv1.ReadAuditRequest, send func([]*latchkeyv1.AuditEvent) error) error {
	want := audit.Reading{Outcome: audit.Outcome(req.GetOutcome()), Last: int(req.GetLast()), Follow: req.GetFollow()}
	if req.GetSince() != nil {
		want.Since = req.GetSince().AsTime()
	}
	if who := req.GetUser(); who != "" {
		match, err := d.eventsOf(ctx, who)
		if err != nil {
			return err
		}
		want.Match = match
	}
	err := audit.Read(ctx, d.opt.auditFile(), want, func(events []audit.Event) error {
		out := make([]*latchkeyv1.AuditEvent, len(events))
		for i := range events {
			out[i] = auditEvent(&events[i])
		}
		return send(out)
	})
	if fault.Is(err, fault.NotFound) { // nothing was attempted yet
		return nil
	}
	return err
}

// eventsOf tells the events of one person: of the row that the name finds, under
// whatever name it was asked for, and those where this very name was typed.
func (d *Daemon) eventsOf(ctx context.Context, who string) (func(*audit.Event) bool, error) {
	key, err := identity.ParseKey(who, identity.KindUser)
	if err != nil {
		return nil, err
	}
	var row identity.RowID
	if e, err := d.resolver.User(ctx, key); err == nil {
		row = e.User.Row
	}
	folded := identity.Fold(who)
	return func(e *audit.Event) bool {
		switch {
		case row != 0 && e.Row == row:
			return true
		case key.Kind == identity.BySID:
			return e.SID == key.SID.String()
		case key.Kind == identity.ByOID:
			return e.OID == key.GUID.String()
		case key.Kind == identity.ByUID:
			return e.UID != 0 && strconv.FormatUint(uint64(e.UID), 10) == who
		}
		// A row of now is not who had the name then.
		return identity.Fold(e.Asked) == folded || e.Row == 0 && (identity.Fold(e.Name) == folded || identity.Fold(e.Account) == folded)
	}, nil
}

// auditEvent is one to one.
func auditEvent(e *audit.Event) *latchkeyv1.AuditEvent {
	return &latchkeyv1.AuditEvent{Time: stamp(e.Time), Id: e.ID, Action: string(e.Action), Outcome: string(e.Outcome), Reason: e.Reason,
		Detail: e.Detail, Hint: e.Hint, Door: e.Door, Service: e.Service, Asked: e.Asked, RemoteHost: e.RemoteHost, Tty: e.TTY, Caller: e.Caller,
		Name: e.Name, Account: e.Account, Uid: uint32(e.UID), Sid: e.SID, Oid: e.OID, How: e.How, Principal: e.Principal, Kdc: e.KDC,
		Rule: e.Rule, Sent: e.Sent, Milliseconds: e.Milliseconds}
}
