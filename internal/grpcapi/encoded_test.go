// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func TestAnswersEndWhenTheClockChangesTheRow(t *testing.T) {
	var a answers
	v, m := resolve.Version{}, &latchkeyv1.User{Username: "alice"}
	for name, tc := range map[string]struct {
		until time.Time
		want  bool
	}{"never": {time.Time{}, true}, "later": {time.Now().Add(time.Hour), true}, "now": {time.Now(), false}, "before": {time.Unix(1, 0), false}} {
		key := asked{key: identity.Key{Kind: identity.ByName, Name: name}}
		if _, err := a.keep(v, key, m, tc.until); err != nil {
			t.Fatal(err)
		}
		if _, ok := a.find(v, key); ok != tc.want {
			t.Errorf("until %s: kept = %v, want %v", name, ok, tc.want)
		}
	}
}

func TestAnswersStayWithinTheirSize(t *testing.T) {
	var a answers
	m := &latchkeyv1.User{DisplayName: strings.Repeat("x", 1000)}
	for i := range 30000 {
		key := asked{key: identity.Key{Kind: identity.ByName, Name: fmt.Sprint("user", i%9000)}}
		if _, err := a.keep(resolve.Version{}, key, m, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	size := 0
	for key, kept := range a.kept {
		size += weight(key, kept.bytes)
	}
	if a.size != size || size > maxEncoded || size < maxEncoded/2 {
		t.Errorf("%d bytes are counted, %d are kept, the limit is %d", a.size, size, maxEncoded)
	}
}

func TestLongAnswersAreNotKept(t *testing.T) {
	var a answers
	m := &latchkeyv1.User{DisplayName: strings.Repeat("x", heldAbove)}
	got, err := a.keep(resolve.Version{}, asked{key: identity.Key{Kind: identity.ByUID}}, m, time.Time{})
	if err != nil || got != proto.Message(m) || len(a.kept) != 0 {
		t.Errorf("keep = %T, %v, %d kept", got, err, len(a.kept))
	}
}
