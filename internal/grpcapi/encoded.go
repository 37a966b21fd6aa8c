// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// encoded is an answer as it goes over the wire. Many calls share its bytes;
// nobody writes to them.
type encoded []byte

// maxEncoded is how many bytes of encoded answers are kept, about 5,000.
const maxEncoded = 4 << 20

// answers keeps encoded answers: programs ask for the same few people again and
// again, and encoding costs more than finding. An answer is good for as long as
// nothing at all has changed, in any row or in how rows are shown.
type answers struct {
	mu      sync.RWMutex
	version resolve.Version
	kept    map[asked]answer
	size    int
}

// asked is what an answer was given to.
type asked struct {
	key  identity.Key
	mask mask
}

type answer struct {
	bytes encoded
	until time.Time // the clock changes the row then; zero: it does not
}

// weight is what an entry takes, with what the map needs for it.
func weight(key asked, b encoded) int { return len(key.key.Name) + len(b) + 200 }

// find returns the answer to a question, if it was kept at this very version.
func (a *answers) find(version resolve.Version, key asked) (encoded, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.version != version {
		return nil, false
	}
	found, ok := a.kept[key]
	if !ok || !found.until.IsZero() && !time.Now().Before(found.until) {
		return nil, false
	}
	return found.bytes, true
}

// keep encodes a message and keeps it for this question. version must have been read
// before the row was: then a change in between makes the answer useless, and
// never wrong. A message that is too long to keep comes back as it is.
func (a *answers) keep(version resolve.Version, key asked, m proto.Message, until time.Time) (any, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(b) > heldAbove {
		return m, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept == nil || a.version != version {
		a.version, a.kept, a.size = version, map[asked]answer{}, 0
	}
	if old, ok := a.kept[key]; ok {
		a.size -= weight(key, old.bytes)
	}
	a.kept[key] = answer{b, until}
	if a.size += weight(key, b); a.size > maxEncoded {
		a.shrink()
	}
	return encoded(b), nil
}

// shrink lets go of a quarter: whichever the map names first, which is no order.
func (a *answers) shrink() {
	for key, old := range a.kept {
		if a.size <= maxEncoded/4*3 {
			return
		}
		delete(a.kept, key)
		a.size -= weight(key, old.bytes)
	}
}

// identityDesc is IdentityService with a GetUser and a GetGroup that may answer
// in bytes.
func identityDesc() *grpc.ServiceDesc {
	desc := latchkeyv1.IdentityService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i, m := range desc.Methods {
		switch m.MethodName {
		case "GetUser":
			desc.Methods[i].Handler = inBytes(latchkeyv1.IdentityService_GetUser_FullMethodName, (*identityService).getUser)
		case "GetGroup":
			desc.Methods[i].Handler = inBytes(latchkeyv1.IdentityService_GetGroup_FullMethodName, (*identityService).getGroup)
		}
	}
	return &desc
}

// inBytes is what protoc-gen-go-grpc writes for a unary method, but for the
// type of the answer.
func inBytes[R any](name string, method func(*identityService, context.Context, *R) (any, error)) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		req := new(R)
		if err := decode(req); err != nil {
			return nil, err
		}
		return interceptor(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: name}, func(ctx context.Context, req any) (any, error) {
			return method(srv.(*identityService), ctx, req.(*R))
		})
	}
}

func (s *identityService) getUser(ctx context.Context, req *latchkeyv1.GetUserRequest) (any, error) {
	return s.one(ctx, identity.KindUser, req, &s.users, userFields)
}

func (s *identityService) getGroup(ctx context.Context, req *latchkeyv1.GetGroupRequest) (any, error) {
	return s.one(ctx, identity.KindGroup, req, &s.groups, groupFields)
}

// oneRequest is what GetUserRequest and GetGroupRequest have in common.
type oneRequest interface {
	GetKey() *latchkeyv1.Key
	GetReadMask() *fieldmaskpb.FieldMask
}

// one answers with one row, from what is kept where that is still true.
func (s *identityService) one(ctx context.Context, kind identity.Kind, req oneRequest, kept *answers, fields protoreflect.FieldDescriptors) (any, error) {
	key, err := parseKey("key", req.GetKey(), kind)
	if err != nil {
		return nil, err
	}
	wanted, err := parseMask(req.GetReadMask(), fields)
	if err != nil {
		return nil, err
	}
	q := asked{key, wanted}
	version := s.directory.Version()
	if b, ok := kept.find(version, q); ok {
		return b, nil
	}
	row, until, err := s.read(ctx, kind, key)
	if err != nil {
		return nil, err
	}
	wanted.clear(row)
	return kept.keep(version, q, row, until)
}

// read returns a whole row, and when the clock will change it; zero: never.
func (s *identityService) read(ctx context.Context, kind identity.Kind, key identity.Key) (row proto.Message, until time.Time, err error) {
	if kind == identity.KindGroup {
		e, err := s.directory.Group(ctx, key)
		if err != nil {
			return nil, until, err
		}
		return toGroup(e), until, nil
	}
	e, err := s.directory.User(ctx, key)
	if err != nil {
		return nil, until, err
	}
	if at := e.User.AccountExpires; time.Now().Before(at) {
		until = at
	}
	return toUser(e), until, nil
}
