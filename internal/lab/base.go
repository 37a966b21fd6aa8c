// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"
)

// A BaseSpec says what a base holds. The zero value is the base of the tests:
// the machine's own Debian release with everything the product, its peers and
// the tests need.
type BaseSpec struct {
	Suite    string   // Debian release; empty: bookworm
	Packages []string // more packages than the usual ones
}

// basePackages is what machines of a lab can do: be a domain controller, be a
// member by Samba's or SSSD's means, serve SSH and SMB, and be looked into.
var basePackages = strings.Fields(`
	acl adcli attr bind9-dnsutils ca-certificates cron curl dbus expect faketime file gdb iproute2 iputils-ping
	krb5-user ldap-utils ldb-tools less libc6-dbg libnss-sss libnss-winbind libpam-modules libpam-runtime libpam-sss
	libpam-winbind libsasl2-modules-gssapi-mit login lsof netcat-openbsd nftables nscd openssh-client openssh-server
	openssl pamtester passwd procps psmisc python3-ldb python3-samba rsync samba samba-common-bin samba-dsdb-modules
	samba-vfs-modules smbclient sshpass sssd sssd-ad sssd-krb5 sssd-tools strace sudo systemd tcpdump tdb-tools
	valgrind vim-tiny winbind xz-utils`)

// suitePackages are those that only some releases have.
var suitePackages = map[string][]string{
	"bookworm": {"samba-ad-provision"},
	"trixie":   {"samba-ad-dc", "samba-ad-provision", "winexe"},
}

//go:embed base.sh
var baseScript string

// baseVersion is raised when the building itself changes in a way that the
// script does not show.
const baseVersion = "1"

func (s BaseSpec) suite() string {
	if s.Suite == "" {
		return "bookworm"
	}
	return s.Suite
}

func (s BaseSpec) packages() []string {
	all := append([]string{}, basePackages...)
	all = append(all, suitePackages[s.suite()]...)
	all = append(all, s.Packages...)
	sort.Strings(all)
	return all
}

// Key identifies a base: the same key, the same contents.
func (s BaseSpec) Key() string {
	hash := sha256.New()
	fmt.Fprintln(hash, baseVersion, runtime.GOARCH, s.suite(), s.packages(), baseScript)
	return "base-" + s.suite() + "-" + hex.EncodeToString(hash.Sum(nil))[:12]
}

// Base returns the root directory of a base, building it first if it is not
// in the cache. It counts as built only when all of it is there: it grows
// under a temporary name and is renamed at the end. Of several processes that
// want the same base one builds and the others wait. Nobody may write to it.
func Base(ctx context.Context, spec BaseSpec, progress Progress) (string, error) {
	return cached(ctx, spec.Key(), progress, func(dir string) error {
		return buildBase(ctx, spec, dir, progress)
	})
}

func buildBase(ctx context.Context, spec BaseSpec, root string, progress Progress) error {
	if _, err := exec.LookPath("debootstrap"); err != nil {
		return errors.New("debootstrap is not installed; apt-get install debootstrap, or labctl deps")
	}
	conf, err := hostAptConfig()
	if err != nil {
		return err
	}
	sources := ForSuite(conf.Sources, conf.Codename, spec.suite())
	if mirror := os.Getenv("LATCHKEY_LAB_MIRROR"); mirror != "" {
		sources = []AptSource{{URI: mirror, Suite: spec.suite(), Components: []string{"main"}}}
	}
	main := -1
	for i, source := range sources {
		if source.Suite == spec.suite() {
			main = i
			break
		}
	}
	if main < 0 {
		return fmt.Errorf("apt on this machine (release %q) names no Debian mirror for %s; set LATCHKEY_LAB_MIRROR to the address of one", conf.Codename, spec.suite())
	}
	scratch, err := os.MkdirTemp("", "latchkey-lab-base-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	keys, err := conf.Keyring(sources[main].SignedBy)
	if err != nil {
		return err
	}
	keyring := filepath.Join(scratch, "keyring.gpg")
	if err := os.WriteFile(keyring, keys, 0o644); err != nil {
		return err
	}
	phase := func(name string, expect time.Duration, arguments ...string) error {
		return progress.step(name, expect, func() error {
			err := runBuildScript(ctx, baseScript, conf, append([]string{root}, arguments...)...)
			if err != nil {
				return fmt.Errorf("building the base, phase %s: %w", arguments[0], err)
			}
			return nil
		})
	}
	if err := phase("unpacking Debian "+spec.suite(), 70*time.Second,
		"unpack", spec.suite(), sources[main].URI, keyring); err != nil {
		return err
	}
	if err := conf.writeInto(root, sources); err != nil {
		return err
	}
	if err := phase("installing Samba, SSSD, sshd and tools", 150*time.Second,
		append([]string{"install"}, spec.packages()...)...); err != nil {
		return err
	}
	return phase("making it a bare box", 5*time.Second, "bare")
}

// writeInto gives the base the repositories, keys, transport settings and
// certificate authorities of this machine, for as long as it is being built.
func (c *AptConfig) writeInto(root string, sources []AptSource) error {
	var list strings.Builder
	for i, source := range sources {
		keys, err := c.Keyring(source.SignedBy)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("/etc/apt/keyrings/lab-%d.gpg", i)
		if err := writeFile(filepath.Join(root, name), keys); err != nil {
			return err
		}
		list.WriteString(source.Line(name) + "\n")
	}
	if err := writeFile(filepath.Join(root, "etc/apt/sources.list"), []byte(list.String())); err != nil {
		return err
	}
	settings := strings.Join(c.Acquire, "\n") + "\nAcquire::Languages \"none\";\nAPT::Install-Recommends \"false\";\nDPkg::Options:: \"--force-unsafe-io\";\n"
	if err := writeFile(filepath.Join(root, "etc/apt/apt.conf.d/00lab"), []byte(settings)); err != nil {
		return err
	}
	// The phase "bare" takes it away again.
	credentials, err := c.credentials()
	if err != nil {
		return err
	}
	auth := filepath.Join(root, "etc/apt/auth.conf")
	if err := os.WriteFile(auth, credentials, 0o600); err != nil {
		return err
	}
	for _, name := range []string{"etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt"} {
		data, err := os.ReadFile(filepath.Join(c.root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(root, name), data); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > count {
		lines = lines[len(lines)-count:]
	}
	return strings.Join(lines, "\n")
}
