// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// fullUser has every field set.
func fullUser() *Row {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC)
	sid := contoso.SID
	return &Row{ID: 100001002, Moved: true, Missed: 1, Entry: Entry{User: &identity.User{
		Common: identity.Common{Row: 7, OID: guid(1, 1), SID: sid.WithRID(1001), ObjectGUID: guid(2, 1),
			PastSIDs: []identity.SID{rebuilt.WithRID(1)}, HistorySIDs: []identity.SID{sid.WithRID(2), sid.WithRID(3)},
			Name: "ana", Account: "Ana", Aliases: []string{`contoso\ana`, "ana@contoso.com"}, DisplayName: "Ana López",
			Mail: "ana@contoso.com", MailNickname: "ana", DN: "CN=Ana", Unpublished: "x", State: identity.Disabled | identity.Guest,
			Created: at, Changed: at.Add(time.Hour)},
		UPN: "ana@contoso.com", GivenName: "Ana", Surname: "López", UID: 100001002, GID: 513, PrimaryGroup: sid.WithRID(513),
		SSHKeys: []string{"ssh-ed25519 AAAA", "ssh-rsa AAAB"}, PasswordLastSet: at, AccountExpires: time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC)}}}
}

func fullGroup() *Row {
	return &Row{ID: 5, Entry: Entry{Group: &identity.Group{Common: identity.Common{Row: 8, SID: contoso.SID.WithRID(1200), Account: "g"},
		GID: 5, Scope: identity.ScopeUniversal, Security: true, ForeignMembers: []identity.SID{rebuilt.WithRID(9)}}}}
}

func TestRecordRoundTrip(t *testing.T) {
	for _, r := range []*Row{fullUser(), fullGroup(), {Entry: Entry{User: &identity.User{Common: identity.Common{Row: 9}}}}} {
		got, err := readRecord(r.Common().Row, appendRecord(nil, r))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, %v, want %+v", got, err, r)
		}
	}
	if v := reflect.ValueOf(*fullUser().User); true {
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Gecos" && name != "Home" && name != "Shell" {
				t.Errorf("field %s is not in the test", name)
			}
		}
	}
}

// TestRecordOfToday holds the bytes that a file of schema 1 has: they can be
// read for ever.
func TestRecordOfToday(t *testing.T) {
	const golden = "0801" + "1210aa010000000000000000000000000001" + "1a1c010500000000000515000000010000000200000003000000e9030000" +
		"3a03616e61" + "4203416e61" + "4a0b636f6e746f736f5c616e61" + "9001eacbd72f" + "c80182d9d72f"
	b, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := &Row{ID: 100001258, Entry: Entry{User: &identity.User{Common: identity.Common{Row: 3, OID: guid(1, 1), SID: contoso.SID.WithRID(1001),
		Name: "ana", Account: "Ana", Aliases: []string{`contoso\ana`}}, UID: 100001258, GID: 100002946}}}
	got, err := readRecord(3, b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v %+v, %v", got, got.User, err)
	}
	if again := appendRecord(nil, want); !bytes.Equal(again, b) {
		t.Errorf("written as %x", again)
	}
}

func TestUnknownFieldsAreCarriedAlong(t *testing.T) {
	b := appendRecord(nil, fullUser())
	newer := protowire.AppendString(protowire.AppendTag(nil, 900, protowire.BytesType), "from the future")
	newer = protowire.AppendFixed64(protowire.AppendTag(newer, 901, protowire.Fixed64Type), 42)
	got, err := readRecord(7, append(slices.Clone(b), newer...))
	if err != nil {
		t.Fatal(err)
	}
	if again := appendRecord(nil, got); !bytes.Equal(again, append(b, newer...)) {
		t.Errorf("written as %x", again)
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add(appendRecord(nil, fullUser()))
	f.Add(appendRecord(nil, fullGroup()))
	f.Add([]byte{0x08, 0x01, 0xf8, 0x07, 0x00})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readRecord(1, b)
		if err != nil {
			return
		}
		printed := appendRecord(nil, r)
		again, err := readRecord(1, printed)
		if err != nil || !bytes.Equal(appendRecord(nil, again), printed) {
			t.Fatalf("%x prints back as %x, %v", b, printed, err)
		}
		for _, k := range indexKeys(nil, r) {
			if len(k.key) == 0 {
				t.Fatalf("an empty key in %s", k.bucket)
			}
		}
	})
}

func FuzzReadSet(f *testing.F) {
	f.Add(packSet(rowSet{1, 2, 300, 70000}))
	f.Add([]byte{3, 1, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := readSet(b)
		for _, r := range s {
			if !slices.IsSorted(s) {
				break
			}
			if !setHas(b, r) {
				t.Fatalf("%x has no %d", b, r)
			}
		}
		if !slices.IsSorted(s) || len(slices.Compact(slices.Clone(s))) != len(s) {
			return // steps of zero or over the end: not one of ours
		}
		if again := readSet(packSet(s)); !slices.Equal(again, s) {
			t.Fatalf("%v prints back as %v", s, again)
		}
	})
}

func TestSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	random := func() rowSet {
		var s []identity.RowID
		for range rng.IntN(12) {
			s = append(s, identity.RowID(rng.IntN(20)))
		}
		return asSet(s)
	}
	for range 2000 {
		s, add, del := random(), random(), random()
		want := map[identity.RowID]bool{}
		for _, r := range s {
			want[r] = !slices.Contains(del, r)
		}
		for _, r := range add {
			want[r] = true
		}
		got := changeSet(s, add, del)
		for r := range identity.RowID(20) {
			if slices.Contains(got, r) != want[r] || setHas(packSet(got), r) != want[r] {
				t.Fatalf("%v + %v - %v = %v", s, add, del, got)
			}
		}
		if !slices.IsSorted(got) || !slices.Equal(got, readSet(packSet(got))) {
			t.Fatalf("%v is no set", got)
		}
		var lost, gained rowSet
		diffSets(s, got, func(r identity.RowID) { lost = append(lost, r) }, func(r identity.RowID) { gained = append(gained, r) })
		if !slices.Equal(changeSet(s, gained, lost), got) {
			t.Fatalf("%v to %v: lost %v, gained %v", s, got, lost, gained)
		}
	}
}
