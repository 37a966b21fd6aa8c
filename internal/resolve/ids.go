// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

// ID is a number and whose kind it is: a uid of a user, a gid of a group. The
// zero ID is nobody's.
type ID struct {
	Number uint32
	Kind   identity.Kind
}

// IDOfSID returns the number of a SID, for ACLs and tokens and never for a
// sign-in: of the row that has the SID, had it before or has it in its
// sIDHistory; of a well-known SID (S-1-5-32-544, S-1-1-0, …), which has a gid of
// its own; of S-1-22-1-uid and S-1-22-2-gid, which carry theirs. fault.NotFound:
// it has none; fault.Unreachable: the mirror was never complete, so nobody
// knows; fault.Malformed: the zero SID.
func (r *Resolver) IDOfSID(ctx context.Context, sid identity.SID) (id ID, err error) {
	err = r.memory.View(ctx, func(v View) (err error) {
		id, err = r.idOfSID(v, sid)
		return err
	})
	return id, err
}

// IDsOfSIDs answers for each SID, in order, out of one consistent look; the
// zero ID where IDOfSID would say fault.NotFound or fault.Malformed.
// fault.Unreachable as there, when any SID of the list is not known yet.
func (r *Resolver) IDsOfSIDs(ctx context.Context, sids []identity.SID) ([]ID, error) {
	ids := make([]ID, len(sids))
	err := r.memory.View(ctx, func(v View) error {
		for i, sid := range sids {
			if i%64 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			id, err := r.idOfSID(v, sid)
			switch {
			case fault.Is(err, fault.NotFound), fault.Is(err, fault.Malformed):
			case err != nil:
				return err
			}
			ids[i] = id
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

func (r *Resolver) idOfSID(v View, sid identity.SID) (ID, error) {
	if sid.IsZero() {
		return ID{}, fault.New(fault.Malformed, "the SID is empty")
	}
	if n, kind, ok := idmap.Unix(sid); ok {
		return ID{n, kind}, nil
	}
	if n, kind, ok := v.IDOfSID(sid); ok {
		return ID{n, kind}, nil
	}
	if !v.Complete() {
		return ID{}, r.notComplete()
	}
	return ID{}, fault.Errorf(fault.NotFound, "%s has no uid or gid", sid)
}

// SIDOfID returns the SID that a number stands for: of the row that has it, or
// the well-known SID of a gid. Accounts of this machine itself are none of ours:
// fault.NotFound, and Samba then asks its own tables. Other errors as for
// IDOfSID.
func (r *Resolver) SIDOfID(ctx context.Context, id ID) (sid identity.SID, err error) {
	err = r.memory.View(ctx, func(v View) (err error) {
		sid, err = r.sidOfID(v, id)
		return err
	})
	return sid, err
}

// SIDsOfIDs is SIDOfID for a list; the zero SID for a number that is nobody's.
func (r *Resolver) SIDsOfIDs(ctx context.Context, ids []ID) ([]identity.SID, error) {
	sids := make([]identity.SID, len(ids))
	err := r.memory.View(ctx, func(v View) error {
		for i, id := range ids {
			if i%64 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			sid, err := r.sidOfID(v, id)
			switch {
			case fault.Is(err, fault.NotFound), fault.Is(err, fault.Malformed):
			case err != nil:
				return err
			}
			sids[i] = sid
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sids, nil
}

func (r *Resolver) sidOfID(v View, id ID) (identity.SID, error) {
	if id.Kind != identity.KindUser && id.Kind != identity.KindGroup {
		return identity.SID{}, fault.New(fault.Malformed, "the number is of no kind")
	}
	if sid, ok := v.SIDOfID(id.Number, id.Kind); ok {
		return sid, nil
	}
	// A number that can never be a row's is nobody's, known or not.
	if !v.Complete() && !idmap.Refused(id.Number) {
		return identity.SID{}, r.notComplete()
	}
	return identity.SID{}, fault.Errorf(fault.NotFound, "nobody has the number %d", id.Number)
}
