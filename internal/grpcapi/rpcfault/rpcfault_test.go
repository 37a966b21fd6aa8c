// SPDX-License-Identifier: Apache-2.0

package rpcfault

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func TestTheTableCoversEveryKindOnce(t *testing.T) {
	seen := map[fault.Kind]int{}
	for _, r := range table {
		seen[r.kind]++
		if r.code == codes.OK || r.code == codes.Unknown || r.sentence == "" {
			t.Errorf("%v has no answer: %+v", r.kind, r)
		}
	}
	for _, k := range fault.Kinds() {
		if seen[k] != 1 {
			t.Errorf("%v has %d rows, want 1", k, seen[k])
		}
	}
	if len(table) != len(fault.Kinds()) {
		t.Errorf("%d rows for %d kinds", len(table), len(fault.Kinds()))
	}
}

// The columns of the design's table.
func TestCodes(t *testing.T) {
	for k, want := range map[fault.Kind]codes.Code{
		fault.NotFound: codes.NotFound, fault.BadCredential: codes.Unauthenticated,
		fault.Locked: codes.FailedPrecondition, fault.Disabled: codes.FailedPrecondition, fault.Expired: codes.FailedPrecondition,
		fault.MustChange: codes.FailedPrecondition, fault.Denied: codes.PermissionDenied, fault.Unreachable: codes.Unavailable,
		fault.Malformed: codes.InvalidArgument, fault.Conflict: codes.FailedPrecondition, fault.Exhausted: codes.ResourceExhausted,
		fault.Internal: codes.Internal, fault.Unknown: codes.Internal, fault.Kind(200): codes.Internal,
	} {
		if got := Code(k); got != want {
			t.Errorf("%v is %v, want %v", k, got, want)
		}
	}
	if got := Reason(fault.MustChange); got != "MUST_CHANGE_PASSWORD" {
		t.Errorf("reason = %q", got)
	}
}

func TestStrangersAreToldNothingOfTheCause(t *testing.T) {
	const inner = "dial 10.1.2.3: /var/lib/latchkey/latchkey.db"
	for _, k := range fault.Kinds() {
		err := fault.WithRemedy(fault.Wrap(k, "open the vault", errors.New(inner)), "look under "+inner)
		st := ForStranger(err, "")
		if text := st.String() + st.Proto().String(); strings.Contains(text, "10.1.2.3") || strings.Contains(text, "vault") || strings.Contains(text, "latchkey.db") {
			t.Errorf("%v: a stranger is told %s", k, text)
		}
		if st.Message() != Sentence(k) {
			t.Errorf("%v: %q, want %q", k, st.Message(), Sentence(k))
		}
	}
}

func TestAdministratorsGetEverythingBack(t *testing.T) {
	for _, k := range fault.Kinds() {
		in := fault.WithRemedy(fault.Wrap(k, "bind", errors.New("clock is 7 min off")), "set the clock")
		out, ours := FromStatus(ForAdministrator(in, ""))
		wantKind := k
		if k == fault.Unknown {
			wantKind = fault.Internal
		}
		if !ours || fault.KindOf(out) != wantKind || out.Error() != "bind: clock is 7 min off" || fault.Remedy(out) != "set the clock" {
			t.Errorf("%v came back as %v %q %q", k, fault.KindOf(out), out, fault.Remedy(out))
		}
	}
}

func TestRequestIDIsShown(t *testing.T) {
	out, _ := FromStatus(ForStranger(errors.New("x"), "0badcafe"))
	if !strings.Contains(out.Error(), "0badcafe") || fault.Remedy(out) == "" {
		t.Errorf("an internal error reads %q, remedy %q", out, fault.Remedy(out))
	}
}

func TestForeignStatusesStayForeign(t *testing.T) {
	if err, ours := FromStatus(status.New(codes.Unavailable, "connection refused")); ours || status.Code(err) != codes.Unavailable {
		t.Errorf("FromStatus = %v, %v", err, ours)
	}
}

func TestReasonsOfANewerServerAreJudgedByCode(t *testing.T) {
	out, ours := FromStatus(New(codes.PermissionDenied, "OUTSIDE_HOURS", "not now", "", ""))
	if !ours || !fault.Is(out, fault.Denied) {
		t.Errorf("FromStatus = %v (%v), %v", out, fault.KindOf(out), ours)
	}
	out, _ = FromStatus(New(codes.OutOfRange, ReasonTooOld, "too old", "", ""))
	if !fault.Is(out, fault.Conflict) {
		t.Errorf("an old token is %v", fault.KindOf(out))
	}
}

func TestTextThatIsNotUTF8IsStillAStatus(t *testing.T) {
	if st := New(codes.Internal, "INTERNAL", "bad \xff byte", "", ""); len(st.Details()) != 1 || !strings.Contains(st.Message(), "bad") {
		t.Errorf("status = %v", st)
	}
}
