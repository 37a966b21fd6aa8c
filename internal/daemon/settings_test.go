// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// A setting that root's half cannot carry out, as a port that is taken, is not
// kept, whether there was one before or not.
func TestSettingThatCannotBeUsedIsTakenBack(t *testing.T) {
	b := newBox(t)
	d, admin, _, _ := b.start()
	set := func(value string) error {
		_, err := admin.Admin.SetConfig(t.Context(), &latchkeyv1.SetConfigRequest{Key: "web.listen", Value: value})
		return err
	}
	fails := func(yes bool) {
		b.root.mu.Lock()
		defer b.root.mu.Unlock()
		if b.root.fail = nil; yes {
			b.root.fail = fault.WithRemedy(fault.New(fault.Conflict, "address already in use"), "choose another")
		}
	}
	for _, before := range []string{":8443", ":9443"} {
		fails(true)
		if err := set(":80"); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "set web.listen") || fault.Remedy(err) == "" {
			t.Errorf("a port that is taken: %v", err)
		}
		if got := d.settings.now().Web.Listen; got != before {
			t.Errorf("afterwards web.listen is %q, want %q", got, before)
		}
		if err := d.settings.reload(); err != nil || d.settings.now().Web.Listen != before {
			t.Errorf("on the disk it is %q, %v", d.settings.now().Web.Listen, err)
		}
		fails(false)
		if err := set(":9443"); err != nil {
			t.Fatal(err)
		}
	}
}
