// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

var errNoRow = fault.New(fault.NotFound, "no such user or group")

// Get returns the row that key finds; kind 0 is either kind (a uid finds users
// only, a gid groups only). Errors as [Store.User].
func (v *View) Get(key identity.Key, kind identity.Kind) (Entry, error) {
	r, err := v.find(key)
	switch {
	case err != nil:
		return Entry{}, err
	case r == nil, kind != 0 && r.Kind() != kind:
		return Entry{}, errNoRow
	}
	return v.shown(r), nil
}

// find returns the live row that key finds; nil when there is none.
func (v *View) find(key identity.Key) (*Row, error) {
	switch key.Kind {
	case identity.ByName:
		if err := identity.CheckAsked(key.Name); err != nil {
			return nil, err
		}
		return v.byName(identity.Fold(key.Name))
	case identity.ByUID, identity.ByGID:
		r, err := v.load(rowOf(v.tx.Bucket(bucketIDs).Get(u32(key.ID))))
		if r == nil || (r.Kind() == identity.KindUser) != (key.Kind == identity.ByUID) || !r.isUnix() {
			return nil, err
		}
		return r, nil
	case identity.BySID:
		if key.SID.IsZero() {
			return nil, fault.New(fault.Malformed, "the SID is empty")
		}
		row, _, more := v.claim(bucketSIDs, key.SID.Bytes(), classLive, classPast)
		if more != 0 { // two rows had it before: it says nothing any more
			return nil, nil
		}
		return v.load(row)
	case identity.ByOID:
		if key.GUID.IsZero() {
			return nil, fault.New(fault.Malformed, "the object id is empty")
		}
		row, _, _ := v.claim(bucketOIDs, key.GUID[:], classLive, classLive)
		r, err := v.load(row)
		if r != nil && r.Common().State.Has(identity.Conflicted) {
			return nil, fault.WithRemedy(fault.Errorf(fault.Conflict, "two live objects carry the object id %s; both are set aside", key.GUID),
				"have one of them removed from the domain's synchronisation; `latchkey status` names them")
		}
		return r, err
	case identity.ByObjectGUID:
		if key.GUID.IsZero() {
			return nil, fault.New(fault.Malformed, "the objectGUID is empty")
		}
		row, _, _ := v.claim(bucketObjects, key.GUID[:], classLive, classLive)
		return v.load(row)
	case identity.ByRow:
		return v.load(key.Row)
	}
	return nil, fault.New(fault.Malformed, "the key is of no kind")
}

// byName finds the row that a folded name means, in any form: a bare name that
// is published, DOMAIN\account, a UPN, account@domain.
func (v *View) byName(name string) (*Row, error) {
	domain := v.s.policy.Load()
	if dom, account, ok := strings.Cut(name, `\`); ok {
		r, err := v.account(account)
		switch {
		case r == nil:
			return nil, err
		case dom == domain.netbios, dom == domain.dns, dom == builtinName && r.isBuiltin():
			return r, nil
		}
		return nil, nil
	}
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		row, _, more := v.claim(bucketNames, namePrefix(name), classUPN, classUPN)
		switch {
		case more != 0: // two people have this UPN: nobody can say who is meant
			return nil, nil
		case row != 0:
			return v.load(row)
		}
		switch suffix := name[at+1:]; suffix {
		case domain.dns, domain.realm, domain.netbios:
			return v.account(name[:at])
		}
		return nil, nil
	}
	r, err := v.account(name)
	if r == nil || !v.answersBare(r, name) {
		return nil, err
	}
	return r, nil
}

// answersBare reports whether the bare name means this row: it is published
// under it, or is nameless for a reason that leaves the bare name to nobody
// else. A row whose bare name is refused is found by its longer names only.
func (v *View) answersBare(r *Row, name string) bool {
	c := r.Common()
	if c.Name != "" {
		return identity.Fold(c.Name) == name
	}
	switch c.Unpublished {
	case idmap.ReasonNoID, idmap.ReasonNoPrimary, idmap.ReasonConflict, idmap.ReasonDistribution, idmap.ReasonBuiltin:
		_, why := idmap.Name(c.Account, v.s.policy.Load().Domain.NetBIOS, idmap.Reserved{})
		return why == "" && v.tx.Bucket(bucketReserved).Get([]byte(name)) == nil
	}
	return false
}

// account returns the row that a folded sAMAccountName means; nil when there is
// none.
func (v *View) account(folded string) (*Row, error) {
	if folded == "" {
		return nil, nil
	}
	row, _, more := v.claim(bucketNames, namePrefix(folded), classAccount, classAccount)
	if more != 0 {
		row = v.winner(folded)
	}
	return v.load(row)
}

// winner decides between rows that claim one account name: the directory has it
// once, so a row that was not seen lately gives way; of the others the one that
// came first keeps it.
func (v *View) winner(folded string) identity.RowID {
	var first, present identity.RowID
	v.claimants(bucketNames, namePrefix(folded), classAccount, func(row identity.RowID) {
		if first == 0 {
			first = row
		}
		if present == 0 {
			if r, _ := v.load(row); r != nil && !r.Common().State.Has(identity.Missing) {
				present = row
			}
		}
	})
	if present != 0 {
		return present
	}
	return first
}
