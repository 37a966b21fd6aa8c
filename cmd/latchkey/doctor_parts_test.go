// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// healthy makes everything that the doctor looks at as it should be.
func (b *bench) healthy(t *testing.T) {
	t.Helper()
	for name, text := range map[string]string{"var/lib/latchkey-nss/identities": "x", "etc/pam.d/common-auth": "auth sufficient pam_latchkey.so\n",
		"etc/pam.d/common-account": "account required /lib/security/pam_latchkey.so\n", "etc/pam.d/common-password": "password x pam_latchkey.so\n",
		"etc/pam.d/common-session": "session optional pam_latchkey.so # ours\n"} {
		path := filepath.Join(b.krb5.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.keytab(t, 2)
}

func (b *bench) keytab(t *testing.T, kvno uint32) {
	t.Helper()
	kt := &kerberos.Keytab{}
	kt.Add(kerberos.MachineEntries([]kerberos.Principal{kerberos.Account("NAS$", "AADDS.CONTOSO.TEST")},
		[]kerberos.Key{{EType: kerberos.AES256, Value: secret.Own(make([]byte, 32))}}, kvno, time.Unix(1700000000, 0))...)
	if err := kt.WriteFile(filepath.Join(b.krb5.Root, "etc/krb5.keytab")); err != nil {
		t.Fatal(err)
	}
}

func TestDoctorFindsEachPart(t *testing.T) {
	for want, harm := range map[string]func(*testing.T, *bench){
		"pam_latchkey.so is not in common-account": func(t *testing.T, b *bench) {
			if err := os.WriteFile(b.at("/etc/pam.d/common-account"), []byte("# account required pam_latchkey.so\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"has version 1 of the key of NAS$@AADDS.CONTOSO.TEST, version 2 is in use": func(t *testing.T, b *bench) { b.keytab(t, 1) },
		"read the keytab": func(t *testing.T, b *bench) { _ = os.Remove(b.at("/etc/krb5.keytab")) },
		"has mode 666, not 644": func(t *testing.T, b *bench) {
			if err := os.Chmod(b.at("/var/lib/latchkey-nss/identities"), 0o666); err != nil {
				t.Fatal(err)
			}
		},
		"is no file": func(t *testing.T, b *bench) {
			_ = os.Remove(b.at("/var/lib/latchkey-nss/identities"))
			if err := os.Symlink("/etc/passwd", b.at("/var/lib/latchkey-nss/identities")); err != nil {
				t.Fatal(err)
			}
		},
		"no such file": func(_ *testing.T, b *bench) { _ = os.Remove(b.at("/var/lib/latchkey-nss/identities")) },
	} {
		b := newBench(t)
		b.healthy(t)
		if text, exit := b.run("doctor"); exit != 0 || strings.Contains(text, "✗") {
			t.Fatalf("a healthy machine:\n%s", text)
		}
		harm(t, b)
		if text, _ := b.run("doctor"); !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}
