// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

const (
	idsAtOnce = 500  // entries in one message
	idsTold   = 1000 // changes and conflicts that are listed; the others are counted
)

// idsHeader says for which domain and range the numbers are.
func (d *Daemon) idsHeader(ctx context.Context) (*latchkeyv1.IdsHeader, error) {
	m, err := d.machine(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := d.settings.now().IDMap.Map(m.Domain.SID)
	if err != nil {
		return nil, err
	}
	c := ids.Config()
	return &latchkeyv1.IdsHeader{Domain: m.Domain.DNS, DomainSid: m.Domain.SID.String(), Method: string(c.Method), Base: c.Base, Size: c.Size}, nil
}

// ExportIDs sends every number that was ever given.
func (d *Daemon) ExportIDs(ctx context.Context, send func(*latchkeyv1.ExportIdsResponse) error) error {
	header, err := d.idsHeader(ctx)
	if err != nil {
		return err
	}
	// The view is left before anything is sent: a slow reader must not hold it.
	var all []*latchkeyv1.IdEntry
	if err := d.store.View(ctx, func(v *store.View) error {
		return v.EachID(func(e store.IDEntry) error {
			all = append(all, idEntry(e))
			return ctx.Err()
		})
	}); err != nil {
		return err
	}
	resp := &latchkeyv1.ExportIdsResponse{Header: header}
	for {
		n := min(len(all), idsAtOnce)
		resp.Entries, all = all[:n], all[n:]
		if err := send(resp); err != nil || len(all) == 0 {
			return err
		}
		resp = &latchkeyv1.ExportIdsResponse{}
	}
}

func idEntry(e store.IDEntry) *latchkeyv1.IdEntry {
	out := &latchkeyv1.IdEntry{Kind: latchkeyv1.IdEntry_Kind(e.Kind), Id: e.ID, Sid: e.SID.String(), Name: e.Name, Gone: e.Gone}
	if !e.OID.IsZero() {
		out.Oid = e.OID.String()
	}
	return out
}

// ImportIDs takes another machine's numbers over: all, or none.
func (d *Daemon) ImportIDs(ctx context.Context, theirs *latchkeyv1.IdsHeader, entries []*latchkeyv1.IdEntry, dryRun bool) (*latchkeyv1.ImportIdsResponse, error) {
	ours, err := d.idsHeader(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case theirs.GetDomainSid() != ours.GetDomainSid():
		return nil, fault.WithRemedy(fault.Errorf(fault.Conflict, "the file is of the domain %s (%s), this machine is in %s (%s)",
			theirs.GetDomain(), theirs.GetDomainSid(), ours.GetDomain(), ours.GetDomainSid()), "export on a machine of the same domain")
	case theirs.GetMethod() != ours.GetMethod() || theirs.GetBase() != ours.GetBase() || theirs.GetSize() != ours.GetSize():
		return nil, fault.WithRemedy(fault.Errorf(fault.Conflict, "the file's numbers are from %s, %d and %d more; this machine's from %s, %d and %d more",
			theirs.GetMethod(), theirs.GetBase(), theirs.GetSize()-1, ours.GetMethod(), ours.GetBase(), ours.GetSize()-1),
			"set idmap.method, idmap.base and idmap.size alike on both machines first, or people who come later would differ again")
	}
	all := make([]store.IDEntry, len(entries))
	for i, e := range entries {
		if all[i], err = idEntryOf(e); err != nil {
			return nil, fault.WithRemedy(fault.Wrap(fault.Malformed, fmt.Sprintf("entry %d", i+1), err), "export the file again")
		}
	}
	done, err := d.store.ImportIDs(ctx, all, dryRun)
	if err != nil {
		return nil, err
	}
	resp := &latchkeyv1.ImportIdsResponse{Same: int64(done.Same), Kept: int64(done.Kept), ChangeCount: int64(len(done.Changes)), ConflictCount: int64(len(done.Conflicts))}
	for _, c := range done.Changes[:min(len(done.Changes), idsTold)] {
		resp.Changes = append(resp.Changes, &latchkeyv1.ImportIdsResponse_Change{Entry: idEntry(c.IDEntry), OldId: c.Old})
	}
	for _, c := range done.Conflicts[:min(len(done.Conflicts), idsTold)] {
		resp.Conflicts = append(resp.Conflicts, &latchkeyv1.ImportIdsResponse_Conflict{Entry: idEntry(c.IDEntry), Reason: c.Reason})
	}
	if !dryRun && len(done.Conflicts) == 0 {
		d.log.Info("ids were imported", "same", done.Same, "changed", len(done.Changes), "kept", done.Kept)
	}
	return resp, nil
}

func idEntryOf(e *latchkeyv1.IdEntry) (out store.IDEntry, err error) {
	out = store.IDEntry{Kind: identity.Kind(e.GetKind()), ID: e.GetId(), Name: e.GetName(), Gone: e.GetGone()}
	if out.SID, err = identity.ParseSID(e.GetSid()); err != nil {
		return out, err
	}
	if e.GetOid() != "" {
		out.OID, err = identity.ParseGUID(e.GetOid())
	}
	return out, err
}
