// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"slices"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// fieldsOf returns the names of the fields that a message has, sorted.
func fieldsOf(m proto.Message) (names []string) {
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		names = append(names, string(f.Name()))
		return true
	})
	slices.Sort(names)
	return names
}

func TestAReadMaskLeavesTheRestOut(t *testing.T) {
	c := open(t, peer.Limits{}).identity(user)
	whole, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")})
	if err != nil || len(fieldsOf(whole)) < 8 {
		t.Fatalf("the whole row: %v, %v", whole, err)
	}
	for _, tc := range []struct{ paths, want []string }{
		{[]string{"username"}, []string{"username"}},
		{[]string{"uid", "username", "uid"}, []string{"uid", "username"}},
		{[]string{"history_sids"}, nil}, // a field that this row does not have
		{[]string{"*"}, fieldsOf(whole)},
		{[]string{}, fieldsOf(whole)},
	} {
		for range 2 { // the second is one that was kept
			u, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice"), ReadMask: &fieldmaskpb.FieldMask{Paths: tc.paths}})
			if got := fieldsOf(u); err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("GetUser with the mask %q: %q, %v, want %q", tc.paths, got, err, tc.want)
			}
		}
	}
	again, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")})
	if err != nil || !proto.Equal(again, whole) {
		t.Errorf("the whole row after masks: %v, %v, want %v", again, err, whole)
	}

	wanted := &fieldmaskpb.FieldMask{Paths: []string{"gid", "sid"}}
	g, err := c.GetGroup(bg(t), &latchkeyv1.GetGroupRequest{Key: byName("staff"), ReadMask: wanted})
	if got := fieldsOf(g); err != nil || !slices.Equal(got, wanted.Paths) {
		t.Errorf("GetGroup with the mask %q: %q, %v", wanted.Paths, got, err)
	}
	users, err := c.ListUsers(bg(t), &latchkeyv1.ListUsersRequest{ReadMask: wanted})
	if err != nil || len(users.GetUsers()) == 0 {
		t.Fatalf("ListUsers: %v, %v", users, err)
	}
	for _, u := range users.GetUsers() {
		if got := fieldsOf(u); !slices.Equal(got, wanted.Paths) {
			t.Errorf("ListUsers with the mask %q: %q", wanted.Paths, got)
		}
	}
	groups, err := c.ListGroups(bg(t), &latchkeyv1.ListGroupsRequest{ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}}})
	if err != nil || len(groups.GetGroups()) == 0 {
		t.Fatalf("ListGroups: %v, %v", groups, err)
	}
	for _, g := range groups.GetGroups() {
		if got := fieldsOf(g); !slices.Equal(got, []string{"name"}) {
			t.Errorf(`ListGroups with the mask "name": %q`, got)
		}
	}
}

func TestAReadMaskOfUnknownFieldsIsRefused(t *testing.T) {
	c := open(t, peer.Limits{}).identity(user)
	for _, paths := range [][]string{{"nothing"}, {"username", "nothing"}, {""}, {"create_time.seconds"}, {"userPrincipalName"}, {"*", "username"}} {
		m := &fieldmaskpb.FieldMask{Paths: paths}
		calls := map[string]func() error{
			"GetUser": func() error {
				_, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice"), ReadMask: m})
				return err
			},
			"GetGroup": func() error {
				_, err := c.GetGroup(bg(t), &latchkeyv1.GetGroupRequest{Key: byName("staff"), ReadMask: m})
				return err
			},
			"ListUsers":  func() error { _, err := c.ListUsers(bg(t), &latchkeyv1.ListUsersRequest{ReadMask: m}); return err },
			"ListGroups": func() error { _, err := c.ListGroups(bg(t), &latchkeyv1.ListGroupsRequest{ReadMask: m}); return err },
		}
		for name, call := range calls {
			st := want(t, name, call(), codes.InvalidArgument, "MALFORMED")
			field := ""
			for _, d := range st.Details() {
				if bad, ok := d.(*errdetails.BadRequest); ok {
					field = bad.GetFieldViolations()[0].GetField()
				}
			}
			if field != "read_mask" {
				t.Errorf("%s with the mask %q: field %q (%s)", name, paths, field, st.Message())
			}
		}
	}
}

// A mask is a word of 64 bits.
func TestFieldNumbersFitIntoAMask(t *testing.T) {
	for _, m := range []proto.Message{&latchkeyv1.User{}, &latchkeyv1.Group{}} {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if f := fields.Get(i); f.Number() > 63 {
				t.Errorf("%s has the number %d", f.FullName(), f.Number())
			}
		}
	}
}
