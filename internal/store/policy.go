// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"maps"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

// Policy is what naming and numbering depend on besides the rows.
type Policy struct {
	Domain identity.Domain
	// IDs gives the numbers of new rows. Nil: none are given yet.
	IDs *idmap.Map
	// Local and Reserved are folded names (identity.Fold) that no row may bear
	// bare: those of this machine's accounts, and those that carry privilege.
	Local, Reserved map[string]struct{}
	// LocalIDs are numbers of this machine's accounts; no row is given one.
	LocalIDs map[uint32]struct{}
}

// rules are a policy with what every question looks up in it.
type rules struct {
	Policy
	netbios, dns, realm string // folded
	names               idmap.Reserved
}

// builtinName is the domain that groups of the DCs' own are qualified with.
const builtinName = "builtin"

func newRules(p Policy) *rules {
	return &rules{
		Policy:  p,
		netbios: identity.Fold(p.Domain.NetBIOS),
		dns:     identity.Fold(p.Domain.DNS),
		realm:   identity.Fold(p.Domain.Realm),
		names:   idmap.Reserved{Local: p.Local, Privileged: p.Reserved},
	}
}

// SetPolicy replaces the policy and names again every row that it touches, in
// one transaction; rows that had no id for want of a range get one. Ids that
// were given stay. A domain with another DNS name is another domain: every row
// of the one before goes to its grave, and comes back with its id when it is
// seen again. The policy is not remembered across Open; the names it led to
// are.
func (s *Store) SetPolicy(ctx context.Context, p Policy) error {
	p.Local, p.Reserved, p.LocalIDs = maps.Clone(p.Local), maps.Clone(p.Reserved), maps.Clone(p.LocalIDs)
	next := newRules(p)
	err := s.update(ctx, func(t *Tx) error {
		last := t.rules
		t.rules = next
		return t.applyPolicy(last.Domain)
	}, func() { s.policy.Store(next) })
	return fault.Wrap(fault.Unknown, "apply the rules for names and ids", err)
}

// applyPolicy makes the file agree with the rules of the transaction.
func (t *Tx) applyPolicy(last identity.Domain) error {
	domain := t.rules.Domain
	if last.DNS != "" && domain.DNS != "" && identity.Fold(last.DNS) != t.rules.dns {
		if err := t.RetireAll(); err != nil {
			return err
		}
	}
	if domain != last {
		if err := t.put(bucketMeta, metaDomain, appendDomain(nil, domain)); err != nil {
			return err
		}
		if err := t.eachRow(0, func(r *Row) error { t.rename(r.Common().Row); return nil }); err != nil {
			return err
		}
	}
	if err := t.changeReserved(); err != nil {
		return err
	}
	if err := t.numberWellKnown(); err != nil {
		return err
	}
	return t.numberTheNumberless()
}

// changeReserved makes the bucket what the rules say, and has every row named
// again whose account name came to it or left it.
func (t *Tx) changeReserved() error {
	want := make(map[string][]byte, len(t.rules.Local)+len(t.rules.Reserved))
	for name := range t.rules.Reserved {
		want[name] = []byte(idmap.ReasonPrivileged)
	}
	for name := range t.rules.Local {
		want[name] = []byte(idmap.ReasonLocal)
	}
	delete(want, "")
	var gone [][]byte
	c := t.tx.Bucket(bucketReserved).Cursor()
	for k, why := c.First(); k != nil; k, why = c.Next() {
		switch now, ok := want[string(k)]; {
		case !ok:
			gone = append(gone, bytes.Clone(k))
		case bytes.Equal(now, why):
			delete(want, string(k))
		}
	}
	for _, name := range gone {
		if err := t.del(bucketReserved, name); err != nil {
			return err
		}
		t.touchName(string(name), 0)
	}
	for name, why := range want {
		if len(name) > maxText {
			continue // no row has it
		}
		if err := t.put(bucketReserved, []byte(name), why); err != nil {
			return err
		}
		t.touchName(name, 0)
	}
	return nil
}

// numberTheNumberless gives ids to rows that want one and have none.
func (t *Tx) numberTheNumberless() error {
	if t.rules.IDs == nil {
		return nil
	}
	// Rows without an id have no name: they are at the end of each list.
	for _, kind := range []identity.Kind{identity.KindUser, identity.KindGroup} {
		start := []byte{byte(kind), orderNameless}
		c := t.tx.Bucket(bucketOrder).Cursor()
		for k, _ := c.Seek(start); len(k) >= 10 && bytes.HasPrefix(k, start); k, _ = c.Next() {
			t.rename(rowOf(k[len(k)-8:]))
		}
	}
	return nil
}

func appendDomain(b []byte, d identity.Domain) []byte {
	b = putText(b, 1, d.NetBIOS)
	b = putText(b, 2, d.DNS)
	b = putText(b, 3, d.Realm)
	return putSID(b, 4, d.SID)
}

func readDomain(b []byte) (d identity.Domain) {
	eachField(b, func(num protowire.Number, n uint64, v []byte) {
		switch num {
		case 1:
			d.NetBIOS = string(v)
		case 2:
			d.DNS = string(v)
		case 3:
			d.Realm = string(v)
		case 4:
			d.SID, _ = identity.SIDFromBytes(v)
		}
	})
	return d
}
