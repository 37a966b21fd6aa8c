// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// certificate has the configuration name one that ends then.
func (b *bench) certificate(t *testing.T, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.at("/etc/cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	b.set(t, "[web]\ncertificate = \"/etc/cert.pem\"\nkey = \"/etc/key.pem\"\n")
}

// roomy is a disk with that much room.
func roomy(free uint64) func(string, *unix.Statfs_t) error {
	return func(_ string, into *unix.Statfs_t) error {
		*into = unix.Statfs_t{Bsize: 4096, Bavail: free / 4096, Files: 100, Ffree: 10}
		return nil
	}
}

func (b *bench) keytab(t *testing.T, kvno uint32) {
	t.Helper()
	kt := &kerberos.Keytab{}
	kt.Add(kerberos.MachineEntries([]kerberos.Principal{kerberos.Account("NAS$", "AADDS.CONTOSO.TEST")},
		[]kerberos.Key{{EType: kerberos.AES256, Value: secret.Own(make([]byte, 32))}}, kvno, time.Unix(1700000000, 0))...)
	if err := kt.WriteFile(filepath.Join(b.krb5.Root, "etc/krb5.keytab")); err != nil {
		t.Fatal(err)
	}
	b.ownKeytab(t, "nas.aadds.contoso.test")
}

// ownKeytab is the daemon's own.
func (b *bench) ownKeytab(t *testing.T, host string) {
	t.Helper()
	kt := &kerberos.Keytab{}
	kt.Add(kerberos.MachineEntries([]kerberos.Principal{kerberos.Service("HTTP", host, "AADDS.CONTOSO.TEST")},
		[]kerberos.Key{{EType: kerberos.AES256, Value: secret.Own(make([]byte, 32))}}, 2, time.Unix(1700000000, 0))...)
	if err := os.MkdirAll(b.at("/var/lib/latchkey"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := kt.WriteFile(b.at("/var/lib/latchkey/krb5.keytab")); err != nil {
		t.Fatal(err)
	}
}

// set writes the configuration that the doctor reads.
func (b *bench) set(t *testing.T, text string) {
	t.Helper()
	b.configFile, b.folder = b.at("/etc/latchkey.toml"), b.at("/etc/conf.d")
	if err := os.WriteFile(b.configFile, []byte("version = 1\n"+text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What the line about tickets says of machines that are well.
func TestDoctorOnTickets(t *testing.T) {
	for text, want := range map[string]string{
		"": "✓ Sign-in to the web by a ticket – a key for HTTP/nas.aadds.contoso.test; by a click (web.negotiate_from is empty)",
		"[web]\nnegotiate_from = [\"10.0.0.0/8\", \"fd00::/8\"]\nnegotiate_groups = [\"Office\"]\n": "without a click from 10.0.0.0/8, fd00::/8; only Office",
		"[web]\nnegotiate = false\n":                          "✓ Sign-in to the web by a ticket – switched off by web.negotiate",
		"[web]\nhostnames = [\"NAS.aadds.contoso.test\"]\n":   "a key for HTTP/nas.aadds.contoso.test; by a click",
		"[web]\nhostnames = [\"files.aadds.contoso.test\"]\n": "! Sign-in to the web by a ticket – there is no key for HTTP/files.aadds.contoso.test",
	} {
		b := newBench(t)
		b.healthy(t)
		b.set(t, text)
		if got, exit := b.run("doctor"); exit != 0 || !strings.Contains(got, want) {
			t.Errorf("with %q: want %q in\n%s", text, want, got)
		}
	}
}

// What an administrator has not switched on is no fault, and not worth a word of
// warning: no shells, no shares, no web.
func TestDoctorOnAMachineWithItsDoorsShut(t *testing.T) {
	b := newBench(t)
	b.healthy(t)
	b.set(t, "[web]\nlisten = \"\"\n")
	for _, stack := range []string{"auth", "account", "password", "session"} {
		_ = os.Remove(b.at("/etc/pam.d/common-" + stack))
	}
	b.daemon.noRules = true
	text, exit := b.run("doctor")
	marks := strings.Count(text, "\n✗") + strings.Count(text, "\n!")
	if exit != 0 || marks != 1 || !strings.Contains(text, "! Compare the clocks") || !strings.Contains(text, "✓ PAM asks latchkey – not switched on, and no rule allows a shell") ||
		!strings.Contains(text, "✓ Shares (SMB) – not switched on") || strings.Contains(text, "web") {
		t.Errorf("exit %d:\n%s", exit, text)
	}
	b.daemon.noRules = false
	if text, _ := b.run("doctor"); !strings.Contains(text, "! PAM asks latchkey – pam_latchkey.so is not in common-auth") {
		t.Errorf("with a rule for sshd:\n%s", text)
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
		"there is no key for HTTP/nas.aadds.contoso.test": func(t *testing.T, b *bench) { b.ownKeytab(t, "other.aadds.contoso.test") },
		"api.sock has mode 600, not 666": func(t *testing.T, b *bench) {
			if err := os.Chmod(b.apiSocket, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"shim-root.sock: no such file": func(_ *testing.T, b *bench) {
			_ = os.Remove(filepath.Join(filepath.Dir(b.apiSocket), "shim-root.sock"))
		},
		"metrics.sock is no socket": func(t *testing.T, b *bench) {
			path := filepath.Join(filepath.Dir(b.apiSocket), "metrics.sock")
			if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		"✗ Room on the disk – 5 MiB free":   func(_ *testing.T, b *bench) { b.statfs = roomy(5 << 20) },
		"! Room on the disk – 100 MiB free": func(_ *testing.T, b *bench) { b.statfs = roomy(100 << 20) },
		"no inode is free": func(_ *testing.T, b *bench) {
			b.statfs = func(_ string, into *unix.Statfs_t) error {
				*into = unix.Statfs_t{Bsize: 4096, Bavail: 1 << 20, Files: 100}
				return nil
			}
		},
		"belongs to uid":               func(_ *testing.T, b *bench) { b.rootUID++ },
		"cert.pem ended on 2026-11-21": func(t *testing.T, b *bench) { b.certificate(t, noon.Add(-24*time.Hour)) },
		"cert.pem ends on 2026-11-29":  func(t *testing.T, b *bench) { b.certificate(t, noon.Add(7*24*time.Hour)) },
		"it is no PEM": func(t *testing.T, b *bench) {
			b.certificate(t, noon)
			if err := os.WriteFile(b.at("/etc/cert.pem"), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"is no file": func(t *testing.T, b *bench) {
			_ = os.Remove(b.at("/var/lib/latchkey-nss/identities"))
			if err := os.Symlink("/etc/passwd", b.at("/var/lib/latchkey-nss/identities")); err != nil {
				t.Fatal(err)
			}
		},
		"identities is not written yet": func(_ *testing.T, b *bench) {
			_ = os.Remove(b.at("/var/lib/latchkey-nss/identities"))
			b.daemon.status.SnapshotGeneration = 0
		},
		"until then passwd changes no password of the domain": func(_ *testing.T, b *bench) { _ = os.Remove(b.at("/etc/pam.d/common-password")) },
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
