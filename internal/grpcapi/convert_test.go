// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

var sid = identity.MustParseSID("S-1-5-21-1-2-3-1105")

// full is a row in which nothing is empty.
func full() identity.Common {
	return identity.Common{
		Row: 17, OID: identity.GUID{1}, SID: sid, ObjectGUID: identity.GUID{2},
		PastSIDs: []identity.SID{sid}, HistorySIDs: []identity.SID{sid, sid},
		Name: "alice", Account: "Alice", Aliases: []string{"a", "b"}, DisplayName: "Alice A.", Mail: "alice@contoso.test",
		MailNickname: "al", DN: "CN=Alice", Unpublished: "privileged", State: identity.Disabled | identity.Missing,
		Created: time.Unix(1, 0), Changed: time.Unix(2, 0),
	}
}

func fullUser() resolve.Entry {
	return resolve.Entry{Qualified: `CONTOSO\Alice`, User: &identity.User{Common: full(), UPN: "alice@x.test", GivenName: "Alice", Surname: "A",
		UID: 100017, GID: 100513, PrimaryGroup: sid, Gecos: "Alice A.", Home: "/home/alice", Shell: "/bin/sh",
		PasswordLastSet: time.Unix(3, 0), AccountExpires: time.Unix(4, 0), SSHKeys: []string{"ssh-ed25519 AAAA"}}} // keys go by ListSshKeys
}

func fullGroup() resolve.Entry {
	return resolve.Entry{Qualified: `CONTOSO\Alice`, Members: 3, Group: &identity.Group{Common: full(), GID: 5, Scope: identity.ScopeGlobal,
		Security: true, ForeignMembers: []identity.SID{sid}}}
}

// A field that somebody adds to the API, or to the row, and forgets here, fails this.
func TestEveryFieldIsConverted(t *testing.T) {
	for _, m := range []proto.Message{toUser(fullUser()), toGroup(fullGroup())} {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if f := fields.Get(i); !m.ProtoReflect().Has(f) {
				t.Errorf("%s is not filled in", f.FullName())
			}
		}
	}
	for _, row := range []any{*fullUser().User, *fullGroup().Group} {
		v := reflect.ValueOf(row)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("this test leaves %s.%s empty", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}

func TestConversionOfAnEmptyRowSaysNothing(t *testing.T) {
	for _, m := range []proto.Message{toUser(resolve.Entry{User: &identity.User{}}), toGroup(resolve.Entry{Group: &identity.Group{}})} {
		m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if f.Name() != "name" {
				t.Errorf("%s = %v of an empty row", f.FullName(), v)
			}
			return true
		})
	}
}

func TestEveryStateAndScopeHasItsEnum(t *testing.T) {
	seen := map[latchkeyv1.AccountState]bool{}
	for bit := range 16 {
		s := identity.State(1 << bit)
		if len(s.Words()) == 0 {
			continue
		}
		got := toStates(s)
		if len(got) != 1 || got[0] == 0 || seen[got[0]] {
			t.Errorf("%v = %v", s.Words(), got)
			continue
		}
		seen[got[0]] = true
	}
	if len(seen) != len(latchkeyv1.AccountState_name)-1 {
		t.Errorf("%d of %d states are used", len(seen), len(latchkeyv1.AccountState_name)-1)
	}
	for s := identity.ScopeUnknown; s.String() != "unknown" || s == 0; s++ {
		if _, ok := scopes[s]; !ok {
			t.Errorf("scope %v has no enum", s)
		}
	}
	for k := resolve.Upsert; k <= resolve.Heartbeat; k++ {
		if events[k] == 0 {
			t.Errorf("event %d has no enum", k)
		}
	}
}
