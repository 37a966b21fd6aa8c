// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/store"
)

type killed struct{}

// perils make the process die at the n-th moment that could matter.
type perils struct {
	left int
	at   string
}

func (p *perils) moment(name string) {
	if p.left--; p.left == 0 {
		p.at = name
		panic(killed{})
	}
}

// mortalMemory dies before and after it writes.
type mortalMemory struct {
	Memory
	p *perils
}

func (m mortalMemory) UpdateMachine(ctx context.Context, fn func(*store.Machine) error) error {
	m.p.moment("before a write")
	err := m.Memory.UpdateMachine(ctx, fn)
	m.p.moment("after a write")
	return err
}

// mortalKeys dies before and after root's copy is written.
type mortalKeys struct {
	HostKeys
	p *perils
}

func (k mortalKeys) Install(ctx context.Context, keys krb5conf.HostKeys) error {
	k.p.moment("before root's copy")
	err := k.HostKeys.Install(ctx, keys)
	k.p.moment("after root's copy")
	return err
}

// TestRotationKilledAnywhere kills at every write, change and step; whoever comes
// next finds out which password counts and ends what was begun.
func TestRotationKilledAnywhere(t *testing.T) {
	moments, begun := map[string]int{}, 0
	for n := 1; ; n++ {
		w, j, keys := member(t)
		p := &perils{left: n}
		memory := j.cfg.Memory
		w.kpasswd = func(to string) error {
			p.moment("before the change")
			err := w.takes(to)
			p.moment("after the change")
			return err
		}
		j.cfg.Memory, j.cfg.HostKeys = mortalMemory{memory, p}, mortalKeys{keys, p}
		died := func() (died bool) {
			defer func() {
				if v := recover(); v != nil {
					if _, ok := v.(killed); !ok {
						panic(v)
					}
					died = true
				}
			}()
			if _, err := j.Rotate(t.Context(), 0, func(s Step) { p.moment(fmt.Sprintf("%s %s", s.ID, s.State)) }); err != nil {
				t.Fatal(err)
			}
			return false
		}()
		if !died {
			if n < 25 || begun < 5 {
				t.Fatalf("only %d moments, %d of them in the middle", n, begun)
			}
			t.Logf("%d moments", n-1)
			break
		}
		moments[p.at]++
		// The machine is up again: whoever has a ticket of either key goes on.
		domain := w.accounts["NAS$"]
		kt, err := kerberos.ReadKeytab(j.cfg.KeytabPath)
		if err != nil {
			t.Fatalf("killed at %s: %v", p.at, err)
		}
		if e, err := kt.Find(kerberos.Service("host", "nas."+testDomain, testRealm), uint32(domain.KVNO), kerberos.AES256); err != nil ||
			!e.Key.Value.Equal(w.kdcs.Key(domain, kerberos.AES256).Value) {
			t.Errorf("killed at %s: the keytab does not have the key that the domain uses, version %d: %v", p.at, domain.KVNO, err)
		}
		m := settled0(t, j)
		if got := domain.Password; got != string(m.Password.Reveal()) && got != string(m.PendingPassword.Reveal()) {
			t.Fatalf("killed at %s: the password that counts is lost", p.at)
		}
		inTheMiddle := m.PendingPassword.Len() > 0
		had := domain.KVNO
		again, _ := w.joiner(t)
		again.cfg.Memory, again.cfg.KeytabPath, again.cfg.HostKeys = memory, j.cfg.KeytabPath, keys
		w.kpasswd = w.takes
		done, err := again.Rotate(t.Context(), 0, func(Step) {})
		if err != nil {
			t.Fatalf("killed at %s, then: %v", p.at, err)
		}
		want := had + 1
		if inTheMiddle {
			begun++
			if had == 2 { // the domain had it already
				want = 2
			}
		}
		if done.Resumed != (inTheMiddle && had == 2) {
			t.Errorf("killed at %s: resumed %v", p.at, done.Resumed)
		}
		settled(t, w, again, uint32(want))
	}
	for _, must := range []string{"before the change", "after the change", "before a write", "after a write", "keytab done", "change done", "remember done"} {
		if moments[must] == 0 {
			t.Errorf("it never died %s: %v", must, moments)
		}
	}
}
