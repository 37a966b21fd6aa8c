// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

func allIDs(t *testing.T, s *Store) (all []IDEntry) {
	t.Helper()
	if err := s.View(context.Background(), func(v *View) error {
		return v.EachID(func(e IDEntry) error { all = append(all, e); return nil })
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func imported(t *testing.T, s *Store, dryRun bool, entries ...IDEntry) *IDImport {
	t.Helper()
	got, err := s.ImportIDs(context.Background(), entries, dryRun)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// entryOf is how a machine that has a row under another number exports it.
func entryOf(r *Row, id uint32) IDEntry {
	c := r.Common()
	return IDEntry{Kind: r.Kind(), ID: id, SID: c.SID, OID: c.OID, Name: c.Account}
}

func TestExportedIDsImportAsTheyAre(t *testing.T) {
	s := newStore(t)
	ana, ben, builtin := user(1, "ana"), user(2, "ben"), group(3, "Users")
	builtin.Group.SID, builtin.Group.Scope = builtinUsers, identity.ScopeBuiltin // as a domain controller has it
	put(t, s, domainUsers(), ana, ben, builtin)
	update(t, s, func(tx *Tx) error { return tx.Retire(ben.User.Row) })
	all := allIDs(t, s)
	if want := 3 + len(idmap.WellKnowns()); len(all) != want {
		t.Fatalf("%d entries, want %d: %+v", len(all), want, all)
	}
	gone := slices.IndexFunc(all, func(e IDEntry) bool { return e.Gone })
	if gone < 0 || all[gone].SID != ben.User.SID || all[gone].Kind != identity.KindUser {
		t.Errorf("the row that is gone is not told: %+v", all)
	}
	if i := slices.IndexFunc(all, func(e IDEntry) bool { return e.Name == `BUILTIN\Users` }); i < 0 || all[i].ID != 199_999_999 {
		t.Errorf("BUILTIN\\Users is not told")
	}
	if got := imported(t, s, false, all...); got.Same != len(all) || len(got.Changes)+got.Kept+len(got.Conflicts) != 0 {
		t.Errorf("its own export: %+v", got)
	}
	// A machine that has met nobody yet keeps the numbers for those who will come.
	other := newStore(t)
	all[slices.IndexFunc(all, func(e IDEntry) bool { return e.SID == ana.User.SID })].ID = 150_000_000
	if got := imported(t, other, false, all...); got.Kept != 3 || got.Same != len(all)-3 || len(got.Conflicts) != 0 {
		t.Fatalf("into an empty store: %+v", got)
	}
	if again := allIDs(t, other); len(again) != len(all) {
		t.Errorf("%d entries of %d are told", len(again), len(all))
	}
	ana2 := user(1, "ana")
	put(t, other, domainUsers(), ana2)
	if got := load(t, other, ana2.User.Row); got.ID != 150_000_000 || !got.Moved {
		t.Errorf("ana came with id %d", got.ID)
	}
	if again := allIDs(t, other); len(again) != len(all) {
		t.Errorf("%d entries of %d are told once she is there", len(again), len(all))
	}
}

func TestImportMovesRows(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	ana, ben, cid := user(1, "ana"), user(2, "ben"), user(3, "cid")
	staff := group(1, "staff")
	put(t, s, domainUsers(), ana, ben, cid, staff)
	a, b, c, g := load(t, s, ana.User.Row).ID, load(t, s, ben.User.Row).ID, load(t, s, cid.User.Row).ID, load(t, s, staff.Group.Row).ID
	update(t, s, func(tx *Tx) error { return tx.Retire(cid.User.Row) })
	users := load(t, s, domainUsersRow(t, s))
	// Two swap, one who is gone moves, groups move and the primary group with them.
	file := []IDEntry{entryOf(ana, b), entryOf(ben, a), entryOf(cid, 160_000_000), entryOf(staff, 160_000_001), entryOf(users, 160_000_002),
		{Kind: identity.KindGroup, ID: 160_000_003, SID: builtinUsers}}
	rehearsal := imported(t, s, true, file...)
	if len(rehearsal.Changes) != 6 || load(t, s, ana.User.Row).ID != a {
		t.Fatalf("the rehearsal: %+v, and ana has %d", rehearsal, load(t, s, ana.User.Row).ID)
	}
	if got := imported(t, s, false, file...); len(got.Changes) != 6 || got.Changes[0].Old != a || got.Changes[0].ID != b || len(got.Conflicts) != 0 {
		t.Fatalf("got %+v", got)
	}
	for row, want := range map[identity.RowID]uint32{ana.User.Row: b, ben.User.Row: a, staff.Group.Row: 160_000_001} {
		if got := load(t, s, row).ID; got != want {
			t.Errorf("row %d has %d, want %d", row, got, want)
		}
		if e, err := s.User(ctx, identity.Key{Kind: identity.ByUID, ID: b}); err != nil || e.Row != ana.User.Row {
			t.Errorf("%d finds %+v, %v", b, e, err)
		}
	}
	if u := getUser(t, s, identity.Key{Kind: identity.ByRow, Row: ana.User.Row}); u.GID != 160_000_002 || u.UID != identity.UID(b) {
		t.Errorf("ana has uid %d, gid %d", u.UID, u.GID)
	}
	if got := wellKnownIDs(t, s)[builtinUsers]; got != 160_000_003 {
		t.Errorf("BUILTIN\\Users has %d", got)
	}
	if err := s.Check(ctx); err != nil {
		t.Error(err)
	}
	// A second time there is nothing to do.
	if got := imported(t, s, false, file...); got.Same != 6 {
		t.Errorf("again: %+v", got)
	}
	// What they had goes to nobody: files still have it.
	for _, was := range []uint32{c, g} {
		got := imported(t, s, false, IDEntry{Kind: identity.KindUser, ID: was, SID: contoso.SID.WithRID(4711)})
		if len(got.Conflicts) != 1 || !strings.Contains(got.Conflicts[0].Reason, "before an earlier import") {
			t.Errorf("%d for somebody else: %+v", was, got)
		}
	}
	heir := user(77, "heir")
	heir.User.SID = cid.User.SID // the arithmetic would give it what cid had
	put(t, s, heir)
	if got := load(t, s, heir.User.Row).ID; got == c || got == 0 {
		t.Errorf("the heir has %d", got)
	}
	// But they themselves may have it back.
	if got := imported(t, s, false, entryOf(staff, g)); len(got.Changes) != 1 || load(t, s, staff.Group.Row).ID != g {
		t.Errorf("back: %+v", got)
	}
}

func domainUsersRow(t *testing.T, s *Store) identity.RowID {
	t.Helper()
	g, err := s.Group(context.Background(), identity.Key{Kind: identity.BySID, SID: contoso.SID.WithRID(513)})
	if err != nil {
		t.Fatal(err)
	}
	return g.Row
}

func TestImportWithAConflictChangesNothing(t *testing.T) {
	s := newStore(t)
	ana, ben := user(1, "ana"), user(2, "ben")
	put(t, s, domainUsers(), ana, ben)
	a, b := load(t, s, ana.User.Row).ID, load(t, s, ben.User.Row).ID
	free := uint32(170_000_000)
	p := policy(t, contoso.SID)
	p.LocalIDs = map[uint32]struct{}{170_000_009: {}}
	if err := s.SetPolicy(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		entries []IDEntry
		reason  string
	}{
		"another row's number":    {[]IDEntry{entryOf(ana, b)}, "ben has the number here"},
		"a row's number for none": {[]IDEntry{{Kind: identity.KindUser, ID: a, SID: contoso.SID.WithRID(4711)}}, "ana has the number here"},
		"a well-known number":     {[]IDEntry{entryOf(ana, 200_000_000)}, "is kept for S-1-5-32-544"},
		"one number for two":      {[]IDEntry{entryOf(ana, free), entryOf(ben, free)}, "gives the number to ana as well"},
		"two numbers for one":     {[]IDEntry{entryOf(ana, free), entryOf(ana, free+1)}, "the number 170000000 as well"},
		"two by oid and by SID":   {[]IDEntry{{Kind: identity.KindUser, ID: free, OID: ana.User.OID, SID: rebuilt.WithRID(9)}, entryOf(ana, free+1)}, "as well"},
		"out of range":            {[]IDEntry{entryOf(ana, 5_000)}, "outside of this machine's range"},
		"refused to everybody":    {[]IDEntry{entryOf(ana, 65534)}, "outside of this machine's range"},
		"a local account's":       {[]IDEntry{entryOf(ana, 170_000_009)}, "an account of this machine"},
		"another kind":            {[]IDEntry{{Kind: identity.KindGroup, ID: free, SID: ana.User.SID}}, "is a user here"},
		"no SID":                  {[]IDEntry{{Kind: identity.KindUser, ID: free}}, "no SID"},
		"no kind":                 {[]IDEntry{{ID: free, SID: ana.User.SID}}, "neither a user nor a group"},
	} {
		before := allIDs(t, s)
		// A good one beside it comes to nothing as well.
		got := imported(t, s, false, append(slices.Clone(tc.entries), IDEntry{Kind: identity.KindUser, ID: 180_000_000, SID: contoso.SID.WithRID(9999)})...)
		if len(got.Conflicts) == 0 || !strings.Contains(got.Conflicts[len(got.Conflicts)-1].Reason, tc.reason) && !strings.Contains(got.Conflicts[0].Reason, tc.reason) {
			t.Errorf("%s: %+v", name, got)
		}
		if !slices.Equal(before, allIDs(t, s)) {
			t.Errorf("%s: something changed", name)
		}
	}
}

func TestImportWithoutARange(t *testing.T) {
	s := open(t, t.TempDir()+"/db")
	if _, err := s.ImportIDs(context.Background(), nil, false); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
}
