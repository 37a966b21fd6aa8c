// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func TestSamLogonIsRefusedWithoutAsking(t *testing.T) {
	f := newFakeDC(t)
	p := f.pool()
	allowed := false
	p.c.MSCHAPv2 = func() bool { return allowed }
	edit := func(fn func(*Logon)) Logon { l := question(); fn(&l); return l }
	for what, tc := range map[string]struct {
		l    Logon
		code uint32
	}{
		"NTLMv1":              {edit(func(l *Logon) { l.NT = make([]byte, 24) }), StatusNTLMBlocked},
		"MS-CHAPv2":           {edit(func(l *Logon) { l.NT = make([]byte, 24); l.Parameters = ParameterMSCHAPv2 }), StatusNTLMBlocked},
		"LM alone":            {edit(func(l *Logon) { l.NT = nil }), StatusInvalidParameter},
		"short":               {edit(func(l *Logon) { l.NT = make([]byte, 43) }), StatusInvalidParameter},
		"25 bytes":            {edit(func(l *Logon) { l.NT = make([]byte, 25) }), StatusInvalidParameter},
		"long":                {edit(func(l *Logon) { l.NT = make([]byte, maxNTLMv2+1) }), StatusInvalidParameter},
		"anonymous":           {edit(func(l *Logon) { l.User = "" }), StatusNoSuchUser},
		"NUL in the name":     {edit(func(l *Logon) { l.User = "a\x00b" }), StatusInvalidParameter},
		"no UTF-8":            {edit(func(l *Logon) { l.Domain = "\xff" }), StatusInvalidParameter},
		"long workstation":    {edit(func(l *Logon) { l.Workstation = strings.Repeat("a", 257) }), StatusInvalidParameter},
		"MS-CHAPv2, 23 bytes": {edit(func(l *Logon) { l.NT = make([]byte, 23); l.Parameters = ParameterMSCHAPv2 }), StatusInvalidParameter},
	} {
		_, err := p.SamLogon(t.Context(), tc.l)
		if code, ok := StatusOf(err); !ok || code != tc.code {
			t.Errorf("%s: %v, want 0x%08X", what, err, tc.code)
		}
	}
	if n := f.asked.Load(); n != 0 {
		t.Errorf("the domain controller was asked %d times", n)
	}
	allowed = true
	if _, err := p.SamLogon(t.Context(), edit(func(l *Logon) { l.NT = make([]byte, 24); l.Parameters = ParameterMSCHAPv2 })); err != nil {
		t.Errorf("MS-CHAPv2, allowed: %v", err)
	}
	for given, want := range map[uint32]uint32{0: 0, 0x820: 0x820, ^uint32(0): 0x820} {
		l := question()
		l.Parameters = given
		if _, err := p.SamLogon(t.Context(), l); err != nil || f.parameters.Load() != want {
			t.Errorf("parameters %x went as %x, want %x; %v", given, f.parameters.Load(), want, err)
		}
	}
	if _, err := p.SamLogon(t.Context(), edit(func(l *Logon) { l.NT = make([]byte, 24) })); err == nil {
		t.Error("NTLMv1 where MS-CHAPv2 is allowed: it was asked about")
	}
}

func TestEveryStatusHasAMeaning(t *testing.T) {
	f := newFakeDC(t)
	p := f.pool()
	for code, m := range meanings {
		f.status.Store(code)
		before := f.opened.Load()
		_, err := p.SamLogon(t.Context(), question())
		if got, ok := StatusOf(err); !ok || got != code || fault.KindOf(err) != m.kind || !strings.Contains(err.Error(), fmt.Sprintf("0x%08X", code)) {
			t.Errorf("0x%08X: %v (%v)", code, err, fault.KindOf(err))
		}
		// A refusal of a person is no broken channel.
		p.mu.Lock()
		idle := len(p.idle)
		p.mu.Unlock()
		if want := map[bool]int{true: 0, false: 1}[m.kind == fault.Unreachable]; idle != want || m.kind != fault.Unreachable && f.opened.Load() > before+1 {
			t.Errorf("0x%08X: %d channels are kept, want %d", code, idle, want)
		}
	}
	f.status.Store(0xC0001234)
	if _, err := p.SamLogon(t.Context(), question()); !fault.Is(err, fault.Unreachable) {
		t.Errorf("a status that nobody knows: %v, want unreachable", err)
	}
}
