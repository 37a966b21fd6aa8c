// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func key(k any) *latchkeyv1.Key {
	switch k := k.(type) {
	case *latchkeyv1.Key_Uid:
		return &latchkeyv1.Key{Key: k}
	case *latchkeyv1.Key_Gid:
		return &latchkeyv1.Key{Key: k}
	case *latchkeyv1.Key_Sid:
		return &latchkeyv1.Key{Key: k}
	case *latchkeyv1.Key_Oid:
		return &latchkeyv1.Key{Key: k}
	case *latchkeyv1.Key_ObjectGuid:
		return &latchkeyv1.Key{Key: k}
	case *latchkeyv1.Key_Resource:
		return &latchkeyv1.Key{Key: k}
	}
	panic("no key")
}

func TestGetUserAndGroupByEveryKey(t *testing.T) {
	b := open(t, peer.Limits{})
	c := b.identity(user)
	for _, k := range []*latchkeyv1.Key{byName("alice"), byName("ALICE"), byName(`Contoso\Alice`), byName("alice@AADDS.contoso.test"),
		key(&latchkeyv1.Key_Uid{Uid: 100001}), key(&latchkeyv1.Key_Sid{Sid: "s-1-5-21-1-2-3-1001"}),
		key(&latchkeyv1.Key_Oid{Oid: "00000000-0000-0000-0000-000000000001"}),
		key(&latchkeyv1.Key_ObjectGuid{ObjectGuid: "01000000-0000-0000-0000-000000000001"}), key(&latchkeyv1.Key_Resource{Resource: "users/1"})} {
		u, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: k})
		if err != nil || u.GetName() != "users/1" || u.GetUsername() != "alice" || u.GetUid() != 100001 || u.GetQualifiedName() != `CONTOSO\alice` {
			t.Errorf("%v: %v, %v", k, u, err)
		}
	}
	for _, k := range []*latchkeyv1.Key{byName("Staff"), key(&latchkeyv1.Key_Gid{Gid: 100050}), key(&latchkeyv1.Key_Resource{Resource: "groups/50"})} {
		g, err := c.GetGroup(bg(t), &latchkeyv1.GetGroupRequest{Key: k})
		if err != nil || g.GetName() != "groups/50" || g.GetMemberCount() != 2 {
			t.Errorf("%v: %v, %v", k, g, err)
		}
	}
}

func TestBadRequestsNameTheField(t *testing.T) {
	b := open(t, peer.Limits{})
	c := b.identity(user)
	many := make([]*latchkeyv1.Key, 1001)
	for i := range many {
		many[i] = byName("x")
	}
	get := func(k *latchkeyv1.Key) func() error {
		return func() error { _, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: k}); return err }
	}
	list := func(r *latchkeyv1.ListUsersRequest) func() error {
		return func() error { _, err := c.ListUsers(bg(t), r); return err }
	}
	for name, tc := range map[string]struct {
		call  func() error
		field string
	}{
		"no key":          {get(nil), "key"},
		"an empty key":    {get(&latchkeyv1.Key{}), "key"},
		"an empty name":   {get(byName("")), "key"},
		"a long name":     {get(byName(strings.Repeat("x", 1025))), "key"},
		"a control":       {get(byName("a\nb")), "key"},
		"a bad SID":       {get(key(&latchkeyv1.Key_Sid{Sid: "S-1-x"})), "key"},
		"a bad oid":       {get(key(&latchkeyv1.Key_Oid{Oid: "1"})), "key"},
		"the zero oid":    {get(key(&latchkeyv1.Key_Oid{Oid: "00000000-0000-0000-0000-000000000000"})), "key"},
		"a gid of a user": {get(key(&latchkeyv1.Key_Gid{Gid: 1})), "key.gid"},
		"a group's name":  {get(key(&latchkeyv1.Key_Resource{Resource: "groups/50"})), "key.resource"},
		"a bad resource":  {get(key(&latchkeyv1.Key_Resource{Resource: "users/01"})), "key"},
		"1,001 keys": {func() error {
			_, err := c.ResolveIdentities(bg(t), &latchkeyv1.ResolveIdentitiesRequest{Keys: many})
			return err
		}, "keys"},
		"1,001 groups": {func() error {
			_, err := c.CheckMembership(bg(t), &latchkeyv1.CheckMembershipRequest{User: byName("alice"), Groups: many})
			return err
		}, "groups"},
		"a negative page": {list(&latchkeyv1.ListUsersRequest{PageSize: -1}), "page_size"},
		"a made-up token": {list(&latchkeyv1.ListUsersRequest{PageToken: "bm9uc2Vuc2U"}), "page_token"},
		"a long filter":   {list(&latchkeyv1.ListUsersRequest{Filter: strings.Repeat("x", 256)}), "filter"},
		"a binary filter": {list(&latchkeyv1.ListUsersRequest{Filter: "\x00"}), "filter"},
		"no publication":  {list(&latchkeyv1.ListUsersRequest{Publication: 9}), "publication"},
		"an empty prefix": {func() error { _, err := c.SearchIdentities(bg(t), &latchkeyv1.SearchIdentitiesRequest{}); return err }, "prefix"},
		"a negative search": {func() error {
			_, err := c.SearchIdentities(bg(t), &latchkeyv1.SearchIdentitiesRequest{Prefix: "a", PageSize: -5})
			return err
		}, "page_size"},
		"a token of others": {func() error {
			_, err := c.ListUserGroups(bg(t), &latchkeyv1.ListUserGroupsRequest{User: byName("alice"), PageToken: "cgEC"})
			return err
		}, "page_token"},
		"a bad resume token": {func() error {
			s, err := c.WatchIdentities(bg(t), &latchkeyv1.WatchIdentitiesRequest{ResumeToken: "!"})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}, "resume_token"},
	} {
		st := want(t, name, tc.call(), codes.InvalidArgument, "MALFORMED")
		field := ""
		for _, d := range st.Details() {
			if bad, ok := d.(*errdetails.BadRequest); ok {
				field = bad.GetFieldViolations()[0].GetField()
			}
		}
		if field != tc.field {
			t.Errorf("%s: field %q, want %q (%s)", name, field, tc.field, st.Message())
		}
	}
	if text := b.log.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, "level=WARN") {
		t.Errorf("misuse reached the log above debug:\n%s", text)
	}
}

func TestResolveIdentitiesAnswersEach(t *testing.T) {
	b := open(t, peer.Limits{})
	resp, err := b.identity(user).ResolveIdentities(bg(t), &latchkeyv1.ResolveIdentitiesRequest{Keys: []*latchkeyv1.Key{
		byName("staff"), byName("nobody"), key(&latchkeyv1.Key_Sid{Sid: "x"}), key(&latchkeyv1.Key_Uid{Uid: 100002}),
		key(&latchkeyv1.Key_Resource{Resource: "groups/1"}), nil}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range resp.GetIdentities() {
		switch {
		case i.GetUser() != nil:
			got = append(got, i.GetUser().GetName())
		case i.GetGroup() != nil:
			got = append(got, i.GetGroup().GetName())
		default:
			got = append(got, fmt.Sprintf("%v %s", codes.Code(i.GetError().GetCode()), i.GetError().GetReason()))
		}
	}
	if want := []string{"groups/50", "NotFound NOT_FOUND", "InvalidArgument MALFORMED", "users/2", "NotFound NOT_FOUND", "InvalidArgument MALFORMED"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func crowd(t *testing.T, limits peer.Limits, n int) (*box, []string) {
	m := memorytest.New()
	var names []string
	var rows []identity.RowID
	for i := 1; i <= n; i++ {
		name := fmt.Sprintf("user%04d", i)
		m.PutUser(person(i, name))
		names, rows = append(names, name), append(rows, identity.RowID(i))
	}
	m.PutGroup(group(90000, "all"), rows...)
	return openOver(t, limits, m, resolve.New(m, resolve.Presentation{Domain: domain})), names
}

func TestListsPage(t *testing.T) {
	for name, limits := range map[string]peer.Limits{"by count": {}, "by bytes": {AnswerBytes: 2000}} {
		b, names := crowd(t, limits, 230)
		c := b.identity(user)
		for _, size := range []int32{0, 1, 7, 150, 5000} {
			if size == 1 && name == "by bytes" {
				continue
			}
			var got, members []string
			for token, n := "", 0; ; n++ {
				resp, err := c.ListUsers(bg(t), &latchkeyv1.ListUsersRequest{PageSize: size, PageToken: token})
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range resp.GetUsers() {
					got = append(got, u.GetUsername())
				}
				if s := proto.Size(resp); limits.AnswerBytes != 0 && s > limits.AnswerBytes+100 {
					t.Errorf("%s: a page has %d bytes", name, s)
				}
				if token = resp.GetNextPageToken(); token == "" {
					break
				}
				if n > 1000 {
					t.Fatal("a list without end")
				}
			}
			for token := ""; ; {
				resp, err := c.ListGroupMembers(bg(t), &latchkeyv1.ListGroupMembersRequest{Group: byName("all"), PageSize: size, PageToken: token})
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range resp.GetMembers() {
					members = append(members, m.GetUser().GetUsername())
				}
				if token = resp.GetNextPageToken(); token == "" {
					break
				}
			}
			if !slices.Equal(got, names) || !slices.Equal(members, names) {
				t.Errorf("%s, pages of %d: %d users and %d members of %d", name, size, len(got), len(members), len(names))
			}
		}
	}
}

func TestAPageTokenServesItsOwnQuestionOnly(t *testing.T) {
	b, _ := crowd(t, peer.Limits{}, 20)
	c := b.identity(user)
	resp, err := c.ListUsers(bg(t), &latchkeyv1.ListUsersRequest{PageSize: 3, Filter: "user"})
	if err != nil || resp.GetNextPageToken() == "" {
		t.Fatal(resp, err)
	}
	token := resp.GetNextPageToken()
	for name, req := range map[string]*latchkeyv1.ListUsersRequest{
		"another filter":      {PageToken: token, Filter: "user0"},
		"another publication": {PageToken: token, Filter: "user", Publication: latchkeyv1.Publication_PUBLICATION_PUBLISHED},
	} {
		_, err := c.ListUsers(bg(t), req)
		want(t, name, err, codes.InvalidArgument, "MALFORMED")
	}
	_, err = c.ListGroups(bg(t), &latchkeyv1.ListGroupsRequest{PageToken: token, Filter: "user"})
	want(t, "the other list", err, codes.InvalidArgument, "MALFORMED")
	if _, err := c.ListUsers(bg(t), &latchkeyv1.ListUsersRequest{PageSize: 8, PageToken: token, Filter: "user"}); err != nil {
		t.Errorf("another page size: %v", err)
	}
}

// A short request must not buy an endless answer: 1,000 times the same big group.
func TestABatchThatGrowsTooLongFailsByItem(t *testing.T) {
	m := memorytest.New()
	g := group(50, "big")
	for n := range uint32(2000) {
		g.ForeignMembers = append(g.ForeignMembers, domainSID.WithRID(n))
	}
	m.PutGroup(g)
	m.PutUser(person(1, "alice"))
	b := openOver(t, peer.Limits{AnswerBytes: 300_000}, m, resolve.New(m, resolve.Presentation{}))
	keys := make([]*latchkeyv1.Key, 1000)
	for i := range keys {
		keys[i] = byName("big")
	}
	keys[999] = byName("alice")
	resp, err := b.identity(user).ResolveIdentities(bg(t), &latchkeyv1.ResolveIdentitiesRequest{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if n := proto.Size(resp); n > 300_000+100*1000 {
		t.Errorf("the answer has %d bytes", n)
	}
	if resp.GetIdentities()[0].GetGroup() == nil || resp.GetIdentities()[999].GetError().GetCode() != int32(codes.ResourceExhausted) {
		t.Errorf("first: %v, last: %v", resp.GetIdentities()[0].GetError(), resp.GetIdentities()[999])
	}
	if len(resp.GetIdentities()) != 1000 {
		t.Errorf("%d answers", len(resp.GetIdentities()))
	}
}

func TestSearchAndMembership(t *testing.T) {
	b := open(t, peer.Limits{})
	c := b.identity(user)
	found, err := c.SearchIdentities(bg(t), &latchkeyv1.SearchIdentitiesRequest{Prefix: "B"})
	if err != nil || len(found.GetIdentities()) != 2 || found.GetIdentities()[0].GetUser().GetUsername() != "bob" && found.GetIdentities()[0].GetGroup().GetGroupname() != "board" {
		t.Errorf("search = %v, %v", found, err)
	}
	found, err = c.SearchIdentities(bg(t), &latchkeyv1.SearchIdentitiesRequest{Prefix: "b", PageSize: 1, Groups: true})
	if err != nil || len(found.GetIdentities()) != 1 || found.GetIdentities()[0].GetGroup().GetGroupname() != "board" || found.GetTruncated() {
		t.Errorf("search for groups = %v, %v", found, err)
	}
	groups, err := c.ListUserGroups(bg(t), &latchkeyv1.ListUserGroupsRequest{User: byName("alice")})
	if err != nil || len(groups.GetGroups()) != 2 || groups.GetNextPageToken() != "" {
		t.Errorf("groups of alice = %v, %v", groups, err)
	}
	check, err := c.CheckMembership(bg(t), &latchkeyv1.CheckMembershipRequest{User: byName("bob"),
		Groups: []*latchkeyv1.Key{byName("staff"), byName("board"), byName("no such"), key(&latchkeyv1.Key_Uid{Uid: 1})}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range check.GetMemberships() {
		got = append(got, fmt.Sprintf("%v %s", m.GetMember(), m.GetError().GetReason()))
	}
	if want := []string{"true ", "false ", "false NOT_FOUND", "false MALFORMED"}; !slices.Equal(got, want) {
		t.Errorf("memberships = %q, want %q", got, want)
	}
	_, err = c.CheckMembership(bg(t), &latchkeyv1.CheckMembershipRequest{User: byName("zoe")})
	want(t, "membership of nobody", err, codes.NotFound, "NOT_FOUND")
}

func TestAMissBeforeTheFirstPassIsUnavailable(t *testing.T) {
	b := open(t, peer.Limits{})
	b.memory.SetComplete(false)
	_, err := b.identity(user).GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("zoe")})
	st := want(t, "a miss", err, codes.Unavailable, "UNREACHABLE")
	if remedyOf(st) == "" {
		t.Error("there is no remedy")
	}
	b.memory.SetComplete(true)
	_, err = b.identity(user).GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("zoe")})
	want(t, "a miss", err, codes.NotFound, "NOT_FOUND")
}

// broken is a directory whose lookups fail in a given way.
type broken struct {
	grpcapi.Directory
	err error
}

func (b broken) Version() resolve.Version { return resolve.Version{} }

func (b broken) User(context.Context, identity.Key) (resolve.Entry, error) {
	if b.err == nil {
		panic("somebody set us up the bug")
	}
	return resolve.Entry{}, b.err
}

func TestFailuresAreLoggedOnceAndToldByKindOnly(t *testing.T) {
	const secretText = "/var/lib/latchkey/latchkey.db: page 7"
	for name, tc := range map[string]struct {
		err    error
		code   codes.Code
		reason string
		level  string
		id     bool
	}{
		"a fault of ours": {fault.Wrap(fault.Internal, "read", errors.New(secretText)), codes.Internal, "INTERNAL", "ERROR", true},
		"nobody's fault":  {errors.New(secretText), codes.Internal, "INTERNAL", "ERROR", true},
		"a panic":         {nil, codes.Internal, "INTERNAL", "ERROR", true},
		"a miss":          {fault.New(fault.NotFound, secretText), codes.NotFound, "NOT_FOUND", "DEBUG", false},
		"an outage":       {fault.New(fault.Unreachable, secretText), codes.Unavailable, "UNREACHABLE", "DEBUG", false},
		"a refusal":       {fault.New(fault.Denied, secretText), codes.PermissionDenied, "DENIED", "WARN", false},
	} {
		b := openOver(t, peer.Limits{}, memorytest.New(), broken{err: tc.err})
		_, err := b.identity(user).GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("x")})
		st := want(t, name, err, tc.code, tc.reason)
		if strings.Contains(st.Proto().String(), "latchkey.db") {
			t.Errorf("%s: a stranger is told %v", name, st.Proto())
		}
		log := b.log.String()
		if n := strings.Count(log, "level="); n != 1 || !strings.Contains(log, "level="+tc.level) || !strings.Contains(log, "GetUser") || !strings.Contains(log, "uid 1001") {
			t.Errorf("%s: the log has %d lines, want one of level %s:\n%s", name, n, tc.level, log)
		}
		id := ""
		for _, d := range st.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				id = info.GetMetadata()["request_id"]
			}
		}
		if (id != "") != tc.id || !strings.Contains(log, id) {
			t.Errorf("%s: request id %q is not in the log:\n%s", name, id, log)
		}
	}
}

func TestStrangersCannotFloodTheLog(t *testing.T) {
	b := openOver(t, peer.Limits{}, memorytest.New(), broken{err: fault.New(fault.Internal, "boom")})
	c := b.identity(user)
	for range 300 {
		_, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("x")})
		if status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
	}
	if n := strings.Count(b.log.String(), "level=ERROR"); n == 0 || n > 70 {
		t.Errorf("300 failures wrote %d lines", n)
	}
}
