// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func machine() *Machine {
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	return &Machine{Domain: contoso, ComputerAccount: "NAS$", ComputerDN: "CN=NAS,OU=AADDC Computers,DC=x", ComputerSID: contoso.SID.WithRID(1500),
		FQDN: "nas.aadds.contoso.test", Password: secret.FromString("pässword"), PreviousPassword: secret.FromString("before"), KVNO: 3, KeyTime: at,
		PendingPassword: secret.FromString("on its way"), PendingTime: at.Add(time.Hour), NextRotation: at.Add(time.Minute), RotationError: "no answer",
		Tenant: guid(8, 8), People: PeopleHybrid, DomainControllers: []string{"dc1", "10.0.0.1"}, DNSServers: []string{"10.0.0.2"}, Joined: at}
}

func TestMachineRecord(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	if _, err := s.Machine(ctx); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.Remedy(err), "latchkey join") {
		t.Errorf("in no domain: %v, %q", err, fault.Remedy(err))
	}
	if err := s.UpdateMachine(ctx, func(*Machine) error { return nil }); !fault.Is(err, fault.NotFound) {
		t.Errorf("update of nothing: %v", err)
	}
	if err := s.PutMachine(ctx, machine()); err != nil {
		t.Fatal(err)
	}
	got, err := s.Machine(ctx)
	if err != nil || !reflect.DeepEqual(got, machine()) {
		t.Errorf("got %+v, %v", got, err)
	}
	if v := reflect.ValueOf(*machine()); true {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("field %s is not in the test", v.Type().Field(i).Name)
			}
		}
	}
	got.Password.Wipe() // a copy
	boom := errors.New("boom")
	if err := s.UpdateMachine(ctx, func(m *Machine) error { m.KVNO = 9; return boom }); err != boom {
		t.Errorf("the error came back as %v", err)
	}
	if err := s.UpdateMachine(ctx, func(m *Machine) error {
		m.PreviousPassword, m.Password = m.Password, secret.FromString("next")
		m.KVNO++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got, err = s.Machine(ctx)
	if err != nil || got.KVNO != 4 || string(got.PreviousPassword.Reveal()) != "pässword" || string(got.Password.Reveal()) != "next" {
		t.Errorf("after the rotation: %+v, %v", got, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", got, got, *got); strings.Contains(text, "next") {
		t.Errorf("the password prints: %s", text)
	}
	if fi, err := os.Stat(s.Path()); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file with the password has mode %v, %v", fi.Mode(), err)
	}
	if err := s.DeleteMachine(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMachine(ctx); err != nil {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := s.Machine(ctx); !fault.Is(err, fault.NotFound) {
		t.Errorf("after it was deleted: %v", err)
	}
}

// TestADamagedRecordIsDamagedWhateverFollows: one field that reads does not make
// up for another that did not.
func TestADamagedRecordIsDamagedWhateverFollows(t *testing.T) {
	tenant := guid(8, 8)
	m := putBytes(nil, macComputerSID, []byte("no SID"))
	if got, err := readMachine(putGUID(m, macTenant, tenant)); !fault.Is(err, fault.Internal) {
		t.Errorf("a machine reads as %+v, %v", got, err)
	}
	c := putBytes(nil, chgSID, []byte("no SID"))
	if got, ok := readChange(1, putGUID(c, chgOID, tenant)); ok {
		t.Errorf("a change reads as %+v", got)
	}
}

func FuzzReadMachine(f *testing.F) {
	f.Add(appendMachine(nil, machine()))
	f.Add([]byte{0x0a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMachine(b)
		if err != nil {
			return
		}
		again, err := readMachine(appendMachine(nil, m))
		if err != nil || string(appendMachine(nil, again)) != string(appendMachine(nil, m)) {
			t.Fatalf("%x: %+v prints back as %+v, %v", b, m, again, err)
		}
	})
}
