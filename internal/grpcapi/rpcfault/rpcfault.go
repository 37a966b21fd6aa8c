// SPDX-License-Identifier: Apache-2.0

// Package rpcfault maps the closed list of faults to gRPC statuses and back:
// one table for the server, and the same one for its clients.
//
// A status carries google.rpc.ErrorInfo (domain "latchkey", reason = the kind)
// and, where there is something to do, google.rpc.Help with the remedy as the
// description of its one link; the reason is in the trailers as well. The package
// decides what a stranger may read; it logs nothing.
package rpcfault

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Domain is ErrorInfo.domain of every error of this product.
const Domain = "latchkey"

// RequestID is the key of ErrorInfo.metadata under which an internal error
// names its line in the daemon's log.
const RequestID = "request_id"

// ReasonTooOld is the reason of a resume token that is out of reach. It comes
// with OUT_OF_RANGE.
const ReasonTooOld = "RESUME_TOKEN_TOO_OLD"

// ReasonKey is the trailer that has the reason of ErrorInfo as plain text, for
// clients whose language does not come with google.rpc's messages.
const ReasonKey = "latchkey-reason"

// Trailer returns what goes with a status besides its details.
func Trailer(err error) metadata.MD {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return metadata.Pairs(ReasonKey, info.GetReason())
		}
	}
	return nil
}

// row is what one kind of fault becomes.
type row struct {
	kind     fault.Kind
	code     codes.Code
	sentence string // for strangers, in place of the error's own text
	remedy   string // for strangers
}

// table has a row for every kind of fault.
var table = [...]row{
	{fault.Unknown, codes.Internal, "an internal error", seeLog},
	{fault.NotFound, codes.NotFound, "no such user or group", ""},
	{fault.BadCredential, codes.Unauthenticated, "the credential is wrong", ""},
	{fault.Locked, codes.FailedPrecondition, "the account is locked out for now", "wait, or ask an administrator to unlock the account"},
	{fault.Disabled, codes.FailedPrecondition, "the account is disabled", "ask an administrator to enable the account"},
	{fault.Expired, codes.FailedPrecondition, "the account or its password has expired", "change the password, or ask an administrator"},
	{fault.MustChange, codes.FailedPrecondition, "the password must be changed first", "change the password"},
	{fault.Denied, codes.PermissionDenied, "not allowed", ""},
	{fault.Unreachable, codes.Unavailable, "the answer is not known at this time", "try again later; `latchkey status` says why: not joined, not yet read, or no domain controller"},
	{fault.Malformed, codes.InvalidArgument, "the request makes no sense", ""},
	{fault.Conflict, codes.FailedPrecondition, "the state of things does not allow it", ""},
	{fault.Exhausted, codes.ResourceExhausted, "a limit was reached", "ask for less at a time"},
	{fault.Internal, codes.Internal, "an internal error", seeLog},
}

const seeLog = "ask an administrator to look into the daemon's log: journalctl -u latchkeyd"

func rowOf(k fault.Kind) row {
	for _, r := range table {
		if r.kind == k {
			return r
		}
	}
	return table[0]
}

// Code returns the status code of a kind.
func Code(k fault.Kind) codes.Code { return rowOf(k).code }

// Reason returns the kind in upper snake case, as ErrorInfo.reason carries it.
// Unknown is INTERNAL: nobody outside can tell them apart.
func Reason(k fault.Kind) string {
	if k == fault.Unknown {
		k = fault.Internal
	}
	return strings.ReplaceAll(strings.ToUpper(k.String()), " ", "_")
}

// Sentence returns what a stranger is told.
func Sentence(k fault.Kind) string { return rowOf(k).sentence }

// ForStranger returns the status for anybody: the kind, a fixed sentence and a
// fixed remedy, nothing of the error itself. requestID may be empty.
func ForStranger(err error, requestID string) *status.Status {
	r := rowOf(fault.KindOf(err))
	return New(r.code, Reason(r.kind), r.sentence, r.remedy, requestID)
}

// ForAdministrator returns the status with the error's own text and remedy.
func ForAdministrator(err error, requestID string) *status.Status {
	r := rowOf(fault.KindOf(err))
	remedy := fault.Remedy(err)
	if remedy == "" && r.code == codes.Internal {
		remedy = "look into the daemon's log: journalctl -u latchkeyd"
	}
	return New(r.code, Reason(r.kind), err.Error(), remedy, requestID)
}

// New returns a status with its details.
func New(code codes.Code, reason, text, remedy, requestID string, more ...protoadapt.MessageV1) *status.Status {
	info := &errdetails.ErrorInfo{Reason: reason, Domain: Domain}
	if requestID != "" {
		info.Metadata = map[string]string{RequestID: requestID}
	}
	details := append([]protoadapt.MessageV1{info}, more...)
	if remedy != "" {
		details = append(details, &errdetails.Help{Links: []*errdetails.Help_Link{{Description: remedy}}})
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	st, err := status.New(code, text).WithDetails(details...)
	if err != nil { // only for code OK, which is no error
		return status.New(codes.Internal, text)
	}
	return st
}

// FromStatus turns a status of ours back into a fault, with the text, the kind
// and the remedy. ok is false for a status that does not come from the product's
// server: one that the transport made.
func FromStatus(st *status.Status) (err error, ok bool) {
	var info *errdetails.ErrorInfo
	remedy := ""
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain {
				info = d
			}
		case *errdetails.Help:
			if len(d.GetLinks()) > 0 {
				remedy = d.GetLinks()[0].GetDescription()
			}
		}
	}
	if info == nil {
		return st.Err(), false
	}
	text := st.Message()
	if id := info.GetMetadata()[RequestID]; id != "" {
		text += " (request " + id + ")"
	}
	return &fault.Error{Kind: kindOf(info.GetReason(), st.Code()), Op: text, Remedy: remedy}, true
}

// kindOf finds the kind by its reason; a reason of a newer server is judged by
// its code.
func kindOf(reason string, code codes.Code) fault.Kind {
	if reason == ReasonTooOld {
		return fault.Conflict
	}
	for _, r := range table[1:] {
		if Reason(r.kind) == reason {
			return r.kind
		}
	}
	for _, r := range table[1:] {
		if r.code == code {
			return r.kind
		}
	}
	return fault.Internal
}
