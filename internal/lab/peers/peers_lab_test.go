// SPDX-License-Identifier: Apache-2.0

//go:build lab

package peers

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// TestPeersAnswer guards the benchmark: a peer that was set up wrongly would
// make us look good.
func TestPeersAnswer(t *testing.T) {
	ctx := t.Context()
	l, err := lab.Up(ctx, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	d, err := l.Domain(ctx, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		setup func() (*Peer, error)
	}{
		{"sssd", func() (*Peer, error) { return SSSD(ctx, newBox(t, l, "sssd"), d, false) }},
		{"winbindd", func() (*Peer, error) { return Winbind(ctx, newBox(t, l, "wb"), d, false) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := tc.setup()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				out, err := p.Output(ctx, "id", lab.UserName(0))
				if err != nil {
					t.Fatal(err)
				}
				if n := strings.Count(out, "group00"); n < 40 {
					t.Errorf("%s: id shows %d of user00000's groups, want 40: %s", p.Name, n, out)
				}
				if err := p.Boot(ctx); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func newBox(t *testing.T, l *lab.Lab, name string) *lab.Box {
	t.Helper()
	box, err := l.Box(t.Context(), name, lab.BoxOptions{UseDNS: true, Krb5Conf: true})
	if err != nil {
		t.Fatal(err)
	}
	return box
}
