// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Directory answers who somebody is, as *resolve.Resolver does.
type Directory interface {
	// Version changes whenever an answer could.
	Version() resolve.Version
	User(ctx context.Context, key identity.Key) (resolve.Entry, error)
	Group(ctx context.Context, key identity.Key) (resolve.Entry, error)
	Resolve(ctx context.Context, questions []resolve.Question) ([]resolve.Answer, error)
	List(ctx context.Context, kind identity.Kind, q resolve.Query) (resolve.Page, error)
	Search(ctx context.Context, s resolve.Search) (found []resolve.Entry, more bool, err error)
	UserGroups(ctx context.Context, key identity.Key, after identity.RowID, limit int) (resolve.RowPage, error)
	GroupMembers(ctx context.Context, key identity.Key, direct bool, after identity.RowID, limit int) (resolve.RowPage, error)
	Memberships(ctx context.Context, user identity.Key, groups []identity.Key) ([]resolve.Membership, error)
	Watch(ctx context.Context, w resolve.Watch) (*resolve.Watcher, error)
	// Qualified returns DOMAIN\account of a row that was found elsewhere.
	Qualified(row *identity.Common) string
}

// shown is a user who was found elsewhere, as GetUser shows them.
func shown(d Directory, u *identity.User) *latchkeyv1.User {
	return toUser(resolve.Entry{User: u, Qualified: d.Qualified(&u.Common)})
}

type identityService struct {
	latchkeyv1.UnimplementedIdentityServiceServer
	directory Directory
	limits    peer.Limits
	// Encoded answers of GetUser and GetGroup, which are in encoded.go.
	users, groups answers
}

// portion is how many rows are read at once, so that an answer that grows too
// long is noticed before all of its rows are in memory.
const portion = 100

func (s *identityService) ResolveIdentities(ctx context.Context, req *latchkeyv1.ResolveIdentitiesRequest) (*latchkeyv1.ResolveIdentitiesResponse, error) {
	if err := checkCount("keys", len(req.GetKeys())); err != nil {
		return nil, err
	}
	resp := &latchkeyv1.ResolveIdentitiesResponse{Identities: make([]*latchkeyv1.ResolvedIdentity, len(req.GetKeys()))}
	room := budget{left: s.limits.AnswerBytes}
	for first := 0; first < len(req.GetKeys()); first += portion {
		keys := req.GetKeys()[first:min(first+portion, len(req.GetKeys()))]
		if err := s.resolve(ctx, keys, resp.Identities[first:], first, &room); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func (s *identityService) resolve(ctx context.Context, keys []*latchkeyv1.Key, out []*latchkeyv1.ResolvedIdentity, first int, room *budget) error {
	questions, at := make([]resolve.Question, 0, len(keys)), make([]int, 0, len(keys))
	for i, k := range keys {
		q, err := parseQuestion(fmt.Sprintf("keys[%d]", first+i), k, 0)
		switch {
		case err != nil:
			out[i] = failed(err)
		case room.spent:
			out[i] = failed(errTooLong)
		default:
			questions, at = append(questions, q), append(at, i)
		}
	}
	if len(questions) == 0 {
		return nil
	}
	answers, err := s.directory.Resolve(ctx, questions)
	if err != nil {
		return err
	}
	for n, a := range answers {
		item := failed(a.Err)
		switch {
		case a.Err != nil:
		case a.User != nil:
			item = &latchkeyv1.ResolvedIdentity{Result: &latchkeyv1.ResolvedIdentity_User{User: toUser(a.Entry)}}
		case a.Group != nil:
			item = &latchkeyv1.ResolvedIdentity{Result: &latchkeyv1.ResolvedIdentity_Group{Group: toGroup(a.Entry)}}
		}
		if a.Err == nil && !room.take(item) {
			item = failed(errTooLong)
		}
		out[at[n]] = item
	}
	return nil
}

var errTooLong = fault.New(fault.Exhausted, "the answer is too long")

func failed(err error) *latchkeyv1.ResolvedIdentity {
	return &latchkeyv1.ResolvedIdentity{Result: &latchkeyv1.ResolvedIdentity_Error{Error: toFailure(err)}}
}

// budget says whether a message still fits into an answer. Once one did not,
// none does.
type budget struct {
	left  int
	spent bool
}

func (b *budget) take(m proto.Message) bool {
	if !b.spent {
		b.left -= proto.Size(m) + 8
		b.spent = b.left < 0
	}
	return !b.spent
}

// addRow appends a row to an answer where it fits; the first always does.
func addRow[M proto.Message](room *budget, rows *[]M, row M) bool {
	if !room.take(row) && len(*rows) > 0 {
		return false
	}
	*rows = append(*rows, row)
	return true
}

func publication(p latchkeyv1.Publication) (resolve.Publication, error) {
	switch p {
	case latchkeyv1.Publication_PUBLICATION_UNSPECIFIED:
		return resolve.All, nil
	case latchkeyv1.Publication_PUBLICATION_PUBLISHED:
		return resolve.Published, nil
	case latchkeyv1.Publication_PUBLICATION_UNPUBLISHED:
		return resolve.Unpublished, nil
	}
	return 0, bad("publication", "%d is none", p)
}

// listRequest is what the two lists have in common.
type listRequest interface {
	GetPageSize() int32
	GetPageToken() string
	GetFilter() string
	GetPublication() latchkeyv1.Publication
}

// list reads one page, hands each entry to add until that returns false, and
// returns the token of the next page.
func (s *identityService) list(ctx context.Context, kind identity.Kind, req listRequest, add func(resolve.Entry) bool) (next string, err error) {
	limit, err := pageSize(req.GetPageSize(), 100, 1000)
	if err != nil {
		return "", err
	}
	if err := checkText("filter", req.GetFilter(), false); err != nil {
		return "", err
	}
	pub, err := publication(req.GetPublication())
	if err != nil {
		return "", err
	}
	asked := question(kind.String(), req.GetFilter(), pub.String())
	after, err := parseMark(req.GetPageToken(), asked)
	if err != nil {
		return "", err
	}
	for limit > 0 {
		page, err := s.directory.List(ctx, kind, resolve.Query{
			Limit: min(limit, portion), After: after, Filter: req.GetFilter(), Publication: pub})
		if err != nil {
			return "", err
		}
		for i, e := range page.Entries {
			if !add(e) {
				return markToken(after, asked), nil
			}
			after = page.Marks[i]
		}
		limit -= min(limit, portion)
		if !page.More {
			return "", nil
		}
		after = page.End
	}
	return markToken(after, asked), nil
}

func (s *identityService) ListUsers(ctx context.Context, req *latchkeyv1.ListUsersRequest) (resp *latchkeyv1.ListUsersResponse, err error) {
	wanted, err := parseMask(req.GetReadMask(), userFields)
	if err != nil {
		return nil, err
	}
	resp = &latchkeyv1.ListUsersResponse{}
	room := budget{left: s.limits.AnswerBytes}
	resp.NextPageToken, err = s.list(ctx, identity.KindUser, req, func(e resolve.Entry) bool {
		u := toUser(e)
		wanted.clear(u)
		return addRow(&room, &resp.Users, u)
	})
	return resp, err
}

func (s *identityService) ListGroups(ctx context.Context, req *latchkeyv1.ListGroupsRequest) (resp *latchkeyv1.ListGroupsResponse, err error) {
	wanted, err := parseMask(req.GetReadMask(), groupFields)
	if err != nil {
		return nil, err
	}
	resp = &latchkeyv1.ListGroupsResponse{}
	room := budget{left: s.limits.AnswerBytes}
	resp.NextPageToken, err = s.list(ctx, identity.KindGroup, req, func(e resolve.Entry) bool {
		g := toGroup(e)
		wanted.clear(g)
		return addRow(&room, &resp.Groups, g)
	})
	return resp, err
}

func (s *identityService) SearchIdentities(ctx context.Context, req *latchkeyv1.SearchIdentitiesRequest) (*latchkeyv1.SearchIdentitiesResponse, error) {
	if err := checkText("prefix", req.GetPrefix(), true); err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize(), 20, 100)
	if err != nil {
		return nil, err
	}
	found, more, err := s.directory.Search(ctx, resolve.Search{
		Prefix: req.GetPrefix(), Limit: limit, Users: req.GetUsers(), Groups: req.GetGroups()})
	if err != nil {
		return nil, err
	}
	resp := &latchkeyv1.SearchIdentitiesResponse{Truncated: more}
	room := budget{left: s.limits.AnswerBytes}
	for _, e := range found {
		if !addRow(&room, &resp.Identities, toIdentity(e)) {
			resp.Truncated = true
			break
		}
	}
	return resp, nil
}

// relatedRequest is what the two lists of relations have in common.
type relatedRequest interface {
	GetPageSize() int32
	GetPageToken() string
}

func (s *identityService) related(req relatedRequest, asked uint64,
	read func(after identity.RowID, limit int) (resolve.RowPage, error), add func(resolve.Entry) bool) (next string, err error) {
	limit, err := pageSize(req.GetPageSize(), 1000, 1000)
	if err != nil {
		return "", err
	}
	after, err := parseAfter(req.GetPageToken(), asked)
	if err != nil {
		return "", err
	}
	for limit > 0 {
		page, err := read(after, min(limit, portion))
		if err != nil {
			return "", err
		}
		for _, e := range page.Entries {
			if !add(e) {
				return afterToken(after, asked), nil
			}
			after = e.Common().Row
		}
		limit -= min(limit, portion)
		if page.Next == 0 {
			return "", nil
		}
		after = page.Next
	}
	return afterToken(after, asked), nil
}

func (s *identityService) ListUserGroups(ctx context.Context, req *latchkeyv1.ListUserGroupsRequest) (*latchkeyv1.ListUserGroupsResponse, error) {
	key, err := parseKey("user", req.GetUser(), identity.KindUser)
	if err != nil {
		return nil, err
	}
	resp := &latchkeyv1.ListUserGroupsResponse{}
	room := budget{left: s.limits.AnswerBytes}
	resp.NextPageToken, err = s.related(req, question("groups", req.GetUser().String()),
		func(after identity.RowID, limit int) (resolve.RowPage, error) {
			return s.directory.UserGroups(ctx, key, after, limit)
		},
		func(e resolve.Entry) bool { return addRow(&room, &resp.Groups, toGroup(e)) })
	return resp, err
}

func (s *identityService) ListGroupMembers(ctx context.Context, req *latchkeyv1.ListGroupMembersRequest) (*latchkeyv1.ListGroupMembersResponse, error) {
	key, err := parseKey("group", req.GetGroup(), identity.KindGroup)
	if err != nil {
		return nil, err
	}
	resp := &latchkeyv1.ListGroupMembersResponse{}
	room := budget{left: s.limits.AnswerBytes}
	resp.NextPageToken, err = s.related(req, question("members", req.GetGroup().String(), fmt.Sprint(req.GetDirect())),
		func(after identity.RowID, limit int) (resolve.RowPage, error) {
			return s.directory.GroupMembers(ctx, key, req.GetDirect(), after, limit)
		},
		func(e resolve.Entry) bool { return addRow(&room, &resp.Members, toIdentity(e)) })
	return resp, err
}

func (s *identityService) CheckMembership(ctx context.Context, req *latchkeyv1.CheckMembershipRequest) (*latchkeyv1.CheckMembershipResponse, error) {
	user, err := parseKey("user", req.GetUser(), identity.KindUser)
	if err != nil {
		return nil, err
	}
	if err := checkCount("groups", len(req.GetGroups())); err != nil {
		return nil, err
	}
	resp := &latchkeyv1.CheckMembershipResponse{Memberships: make([]*latchkeyv1.Membership, len(req.GetGroups()))}
	var groups []identity.Key
	var at []int
	for i, k := range req.GetGroups() {
		key, err := parseKey(fmt.Sprintf("groups[%d]", i), k, identity.KindGroup)
		if err != nil {
			resp.Memberships[i] = &latchkeyv1.Membership{Error: toFailure(err)}
			continue
		}
		groups, at = append(groups, key), append(at, i)
	}
	list, err := s.directory.Memberships(ctx, user, groups)
	if err != nil {
		return nil, err
	}
	for n, m := range list {
		resp.Memberships[at[n]] = &latchkeyv1.Membership{Member: m.Member}
		if m.Err != nil {
			resp.Memberships[at[n]].Error = toFailure(m.Err)
		}
	}
	return resp, nil
}
