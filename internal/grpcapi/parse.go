// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// maxKeys is how many keys one request may carry.
const maxKeys = 1000

// badRequest is a request that makes no sense. Its text speaks of the request
// only, so that anybody may read it.
type badRequest struct {
	field, text string
}

func bad(field, format string, args ...any) error {
	return &badRequest{field, fmt.Sprintf(format, args...)}
}

// Error says which field is wrong, and why.
func (b *badRequest) Error() string { return b.field + ": " + b.text }

// Unwrap gives the error its kind.
func (b *badRequest) Unwrap() error { return fault.New(fault.Malformed, b.text) }

func (b *badRequest) status() *status.Status {
	return rpcfault.New(codes.InvalidArgument, rpcfault.Reason(fault.Malformed), b.Error(), "", "",
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{
			Field: strings.ToValidUTF8(b.field, "\uFFFD"), Description: strings.ToValidUTF8(b.text, "\uFFFD")}}})
}

// parseKey reads the key in a field of a request, for a row of the given kind.
func parseKey(field string, k *latchkeyv1.Key, kind identity.Kind) (identity.Key, error) {
	q, err := parseQuestion(field, k, kind)
	return q.Key, err
}

// parseQuestion is parseKey for kind 0, too, which is either kind; the answer
// has the kind that the key itself tells.
func parseQuestion(field string, k *latchkeyv1.Key, kind identity.Kind) (resolve.Question, error) {
	fail := func(err error) (resolve.Question, error) { return resolve.Question{}, bad(field, "%v", err) }
	ask := func(key identity.Key, kind identity.Kind) (resolve.Question, error) {
		return resolve.Question{Key: key, Kind: kind}, nil
	}
	switch k := k.GetKey().(type) {
	case *latchkeyv1.Key_Name:
		if err := identity.CheckAsked(k.Name); err != nil {
			return fail(err)
		}
		return ask(identity.Key{Kind: identity.ByName, Name: k.Name}, kind)
	case *latchkeyv1.Key_Uid:
		if kind == identity.KindGroup {
			return resolve.Question{}, bad(field+".uid", "a uid finds users only")
		}
		return ask(identity.Key{Kind: identity.ByUID, ID: k.Uid}, identity.KindUser)
	case *latchkeyv1.Key_Gid:
		if kind == identity.KindUser {
			return resolve.Question{}, bad(field+".gid", "a gid finds groups only")
		}
		return ask(identity.Key{Kind: identity.ByGID, ID: k.Gid}, identity.KindGroup)
	case *latchkeyv1.Key_Sid:
		sid, err := identity.ParseSID(k.Sid)
		if err != nil {
			return fail(err)
		}
		return ask(identity.Key{Kind: identity.BySID, SID: sid}, kind)
	case *latchkeyv1.Key_Oid:
		guid, err := parseGUID(k.Oid)
		if err != nil {
			return fail(err)
		}
		return ask(identity.Key{Kind: identity.ByOID, GUID: guid}, kind)
	case *latchkeyv1.Key_ObjectGuid:
		guid, err := parseGUID(k.ObjectGuid)
		if err != nil {
			return fail(err)
		}
		return ask(identity.Key{Kind: identity.ByObjectGUID, GUID: guid}, kind)
	case *latchkeyv1.Key_Resource:
		row, of, err := parseResource(k.Resource)
		if err != nil {
			return fail(err)
		}
		if kind != 0 && of != kind {
			return resolve.Question{}, bad(field+".resource", "%.200q is not a %s", k.Resource, kind)
		}
		return ask(identity.Key{Kind: identity.ByRow, Row: row}, of)
	}
	return resolve.Question{}, bad(field, "is empty")
}

func parseGUID(text string) (identity.GUID, error) {
	g, err := identity.ParseGUID(text)
	if err == nil && g.IsZero() {
		err = fault.New(fault.Malformed, "the zero GUID is nobody's")
	}
	return g, err
}

// checkCount refuses a batch that is too long.
func checkCount(field string, n int) error {
	if n > maxKeys {
		return bad(field, "%d keys, at most %d are taken", n, maxKeys)
	}
	return nil
}

const (
	usersPrefix  = "users/"
	groupsPrefix = "groups/"
)

// resource returns the resource name of a row.
func resource(kind identity.Kind, row identity.RowID) string {
	prefix := usersPrefix
	if kind == identity.KindGroup {
		prefix = groupsPrefix
	}
	return prefix + strconv.FormatUint(uint64(row), 10)
}

func parseResource(name string) (identity.RowID, identity.Kind, error) {
	kind := identity.KindUser
	digits, ok := strings.CutPrefix(name, usersPrefix)
	if !ok {
		kind = identity.KindGroup
		if digits, ok = strings.CutPrefix(name, groupsPrefix); !ok {
			return 0, 0, fault.Errorf(fault.Malformed, "not a resource name: %.200q", name)
		}
	}
	row, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || row == 0 || resource(kind, identity.RowID(row)) != name {
		return 0, 0, fault.Errorf(fault.Malformed, "not a resource name: %.200q", name)
	}
	return identity.RowID(row), kind, nil
}

// pageSize reads a page size.
func pageSize(asked int32, standard, most int) (int, error) {
	switch {
	case asked < 0:
		return 0, bad("page_size", "%d is negative", asked)
	case asked == 0:
		return standard, nil
	}
	return min(int(asked), most), nil
}

// checkText reads an optional text to look for.
func checkText(field, text string, required bool) error {
	switch {
	case text == "" && required:
		return bad(field, "is empty")
	case len(text) > 255:
		return bad(field, "is longer than 255 bytes")
	case text != "" && identity.CheckAsked(text) != nil:
		return bad(field, "has a control character")
	}
	return nil
}
