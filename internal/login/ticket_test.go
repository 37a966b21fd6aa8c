// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"errors"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// pac is the PAC of a ticket of alice to this machine.
func (w *world) pac(change func(*krbtest.PAC)) []byte {
	p := *w.alice.PAC
	if change != nil {
		change(&p)
	}
	return p.Marshal(kerberos.Account("alice", realm), time.Now(), w.kdc.Key(w.host, kerberos.AES256))
}

func TestPACOfATicketFindsTheRow(t *testing.T) {
	w := newWorld(t)
	local := domainSID.WithRID(2000)
	raw := w.pac(func(p *krbtest.PAC) { p.Resource, p.Groups = []identity.SID{local}, []uint32{513, 4000} })
	before := w.store.Position()
	r, err := w.login.AcceptPAC(t.Context(), login.Request{Door: "winbind"}, raw)
	if err != nil {
		t.Fatal(err)
	}
	if r.User.Name != "alice" || r.How != login.ByTicket || r.CCache.Len() != 0 {
		t.Errorf("result %+v", r.Result)
	}
	has := map[identity.SID]bool{}
	for _, sid := range r.PAC.Groups {
		has[sid] = true
	}
	if !has[local] || !has[domainSID.WithRID(4000)] {
		t.Errorf("the PAC's groups are %v, want the resource group among them", r.PAC.Groups)
	}
	if w.store.Position() != before {
		t.Error("a PAC that somebody brought changed the store")
	}
	e := w.events()[0]
	if e.Action != audit.SignIn || e.How != "ticket" || e.Service != access.SMB || e.Outcome != audit.Allowed || e.SID != domainSID.WithRID(1105).String() || e.Asked != `AADDSEX\alice` {
		t.Errorf("event %+v", e)
	}
}

func TestPACIsRefused(t *testing.T) {
	moved := domainSID.WithRID(1300)
	for name, tc := range map[string]struct {
		set    func(w *world)
		change func(*krbtest.PAC)
		want   fault.Kind
		other  bool
	}{
		"a user of another domain":   {nil, func(p *krbtest.PAC) { p.User = identity.MustParseSID("S-1-5-21-9-9-9-1105") }, fault.NotFound, true},
		"nobody's SID":               {nil, func(p *krbtest.PAC) { p.User = domainSID.WithRID(7777) }, fault.NotFound, false},
		"a group's SID":              {nil, func(p *krbtest.PAC) { p.User = domainSID.WithRID(513) }, fault.NotFound, false},
		"a SID that the row had":     {func(w *world) { w.move(1105, moved) }, nil, fault.NotFound, false},
		"disabled since it was made": {func(w *world) { w.change = func(u *identity.User) { u.State |= identity.Disabled } }, nil, fault.Disabled, false},
		"gone since it was made":     {func(w *world) { w.nobody.Store(true) }, nil, fault.Disabled, false},
		"denied by a rule": {func(w *world) {
			if _, err := w.login.SetRules(t.Context(), "test", access.SMB, access.Deny, "%Domain Users"); err != nil {
				t.Fatal(err)
			}
		}, nil, fault.Denied, false},
		"made with another key": {func(w *world) { w.host.Password = "another" }, nil, fault.BadCredential, false},
	} {
		w := newWorld(t)
		if tc.set != nil {
			tc.set(w)
		}
		r, err := w.login.AcceptPAC(t.Context(), login.Request{Door: "winbind"}, w.pac(tc.change))
		wantKind(t, name, err, tc.want)
		if r != nil || errors.Is(err, login.ErrOtherDomain) != tc.other {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	w := newWorld(t)
	raw := w.pac(nil)
	for i := range raw {
		if i%7 == 0 { // every byte is bent in package kerberos's own test
			bent := append([]byte(nil), raw...)
			bent[i] ^= 1
			if r, err := w.login.AcceptPAC(t.Context(), login.Request{}, bent); err == nil && i < len(raw)-24 { // the KDC's own signature comes last
				t.Errorf("byte %d bent: let in as %v", i, r.User.Name)
			}
		}
	}
	_, err := w.login.AcceptPAC(t.Context(), login.Request{}, nil)
	wantKind(t, "no PAC", err, fault.Malformed)
}

func TestPACOfTheKeyBeforeARotation(t *testing.T) {
	w := newWorld(t)
	raw := w.pac(nil)
	old := w.kdc.Keytab(w.host)
	w.kdc.Change(func() { w.host.Password, w.host.KVNO = "rotated", 3 })
	both := w.kdc.Keytab(w.host)
	both.Add(old.Entries...)
	if err := both.WriteFile(w.domain.Keytab); err != nil {
		t.Fatal(err)
	}
	for what, pac := range map[string][]byte{"before": raw, "after": w.pac(nil)} {
		if _, err := w.login.AcceptPAC(t.Context(), login.Request{}, pac); err != nil {
			t.Errorf("a ticket from %s the rotation: %v", what, err)
		}
	}
}

// move gives a row another SID, as a rebuilt domain does.
func (w *world) move(rid uint32, to identity.SID) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), func(tx *store.Tx) error {
		r, err := tx.FindObject(guid(byte(rid)))
		if err != nil {
			return err
		}
		r = r.Clone()
		r.User.PastSIDs, r.User.SID = append(r.User.PastSIDs, r.User.SID), to
		return tx.Put(r)
	}); err != nil {
		w.t.Fatal(err)
	}
}

// conflict marks a row as one of two objects that claim to be one person.
func (w *world) conflict(rid uint32) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), func(tx *store.Tx) error {
		r, err := tx.FindObject(guid(byte(rid)))
		if err != nil {
			return err
		}
		r = r.Clone()
		r.User.State |= identity.Conflicted
		return tx.Put(r)
	}); err != nil {
		w.t.Fatal(err)
	}
}
