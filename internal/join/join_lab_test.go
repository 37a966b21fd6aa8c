// SPDX-License-Identifier: Apache-2.0

//go:build lab

package join

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

func TestJoinAsOrdinaryUser(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	o := mustJoin(t, d, box, nil)
	t.Logf("\n%s%+v", o, o.Membership)
	for _, s := range o.Steps {
		if s.State == Warning || s.State == Failed {
			t.Errorf("step %s: %s %s", s.ID, s.State, s.Detail)
		}
	}
	_ = strings.TrimSpace
}
