// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// An AptConfig is what a base needs to know of how this machine installs
// packages: which repositories, signed by whom, reached how.
type AptConfig struct {
	Codename string      // VERSION_CODENAME of os-release(5)
	Sources  []AptSource // every enabled binary repository
	Acquire  []string    // apt.conf(5) lines of transports, proxies and dates
	HTTP     string      // proxy for http as a URL, or empty
	HTTPS    string      // proxy for https as a URL, or empty
	root     string      // where it was read from
}

// ReadAptConfig reads the apt configuration below root, "/" for this machine.
// dump is the output of apt-config dump. It reads files only.
func ReadAptConfig(root, dump string) (*AptConfig, error) {
	conf := &AptConfig{root: root}
	release, err := os.ReadFile(filepath.Join(root, "etc/os-release"))
	if err != nil {
		return nil, fmt.Errorf("cannot tell which Debian this is: %w", err)
	}
	for line := range strings.SplitSeq(string(release), "\n") {
		if value, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok {
			conf.Codename = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	files, _ := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d/*"))
	files = append([]string{filepath.Join(root, "etc/apt/sources.list")}, files...)
	for _, file := range files {
		parse := ParseSourcesList
		switch {
		case strings.HasSuffix(file, ".sources"):
			parse = ParseDeb822Sources
		case !strings.HasSuffix(file, ".list"):
			continue
		}
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sources, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		conf.Sources = append(conf.Sources, sources...)
	}
	conf.readAcquire(dump)
	return conf, nil
}

// hostAptConfig reads this machine's own configuration, asking apt-config for
// the settings so that every file and default counts.
func hostAptConfig() (*AptConfig, error) {
	dump, err := exec.Command("apt-config", "dump").Output()
	if err != nil {
		return nil, fmt.Errorf("apt-config dump: %w; a lab base is built with apt and debootstrap", err)
	}
	return ReadAptConfig("/", string(dump))
}

// readAcquire keeps the settings that decide how a package is fetched.
// Languages, caches and index targets are the host's own business.
func (c *AptConfig) readAcquire(dump string) {
	for line := range strings.SplitSeq(dump, "\n") {
		name, value, ok := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), ";"), " ")
		value = strings.Trim(value, `"`)
		if !ok || value == "" {
			continue
		}
		lower := strings.ToLower(name)
		switch {
		case lower == "acquire::http::proxy":
			c.HTTP = value
		case lower == "acquire::https::proxy":
			c.HTTPS = value
		case strings.HasPrefix(lower, "acquire::http::"), strings.HasPrefix(lower, "acquire::https::"):
		case lower == "acquire::check-valid-until", lower == "acquire::check-date", lower == "acquire::retries",
			lower == "acquire::forceipv4", lower == "acquire::forceipv6", strings.HasPrefix(lower, "acquire::max-"):
		default:
			continue
		}
		// A command of the host cannot run inside a base; what it answers
		// is asked for when the base is built.
		if strings.HasSuffix(lower, "proxy-auto-detect") || strings.HasSuffix(lower, "proxyautodetect") {
			continue
		}
		c.Acquire = append(c.Acquire, fmt.Sprintf("%s %q;", name, value))
	}
	if c.HTTPS == "" {
		c.HTTPS = c.HTTP
	}
}

// Keyring returns the OpenPGP keys that sign a source, in the binary form that
// gpgv reads. Without a Signed-By these are all the keys apt trusts.
func (c *AptConfig) Keyring(signedBy string) ([]byte, error) {
	if strings.Contains(signedBy, "-----BEGIN PGP PUBLIC KEY BLOCK-----") {
		return dearmor([]byte(signedBy))
	}
	var files []string
	for _, part := range strings.FieldsFunc(signedBy, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		// A fingerprint chooses among the trusted keys; trusting them all
		// is what apt does for sources without one.
		if strings.HasPrefix(part, "/") {
			files = append(files, filepath.Join(c.root, part))
		}
	}
	if len(files) == 0 {
		for _, pattern := range []string{"etc/apt/trusted.gpg", "etc/apt/trusted.gpg.d/*.gpg", "etc/apt/trusted.gpg.d/*.asc"} {
			found, _ := filepath.Glob(filepath.Join(c.root, pattern))
			files = append(files, found...)
		}
	}
	if len(files) == 0 {
		files = []string{filepath.Join(c.root, "usr/share/keyrings/debian-archive-keyring.gpg")}
	}
	var keys []byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		if bytes.Contains(data, []byte("-----BEGIN PGP")) {
			if data, err = dearmor(data); err != nil {
				return nil, fmt.Errorf("signing key %s: %w", file, err)
			}
		}
		keys = append(keys, data...)
	}
	return keys, nil
}

// credentials returns what apt_auth.conf(5) says of mirrors that ask for a
// password: the file and its directory, as one text. debootstrap knows nothing
// of it; the mirror of the release itself must be open.
func (c *AptConfig) credentials() ([]byte, error) {
	parts, _ := filepath.Glob(filepath.Join(c.root, "etc/apt/auth.conf.d/*.conf"))
	var all []byte
	for _, path := range append(parts, filepath.Join(c.root, "etc/apt/auth.conf")) {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(append(all, data...), '\n')
	}
	return all, nil
}

// dearmor turns every ASCII-armoured block of RFC 4880 section 6.2 in data
// into its bytes. The checksum is left to gpgv, which checks the signatures.
func dearmor(data []byte) ([]byte, error) {
	var out []byte
	rest := string(data)
	for {
		_, after, found := strings.Cut(rest, "-----BEGIN PGP PUBLIC KEY BLOCK-----")
		if !found {
			break
		}
		body, tail, closed := strings.Cut(after, "-----END PGP PUBLIC KEY BLOCK-----")
		if !closed {
			return nil, errors.New("a key block has no end")
		}
		rest = tail
		var encoded strings.Builder
		for line := range strings.SplitSeq(body, "\n") {
			line = strings.TrimSpace(line)
			if line == "" || line == "." || strings.Contains(line, ":") || strings.HasPrefix(line, "=") {
				continue
			}
			encoded.WriteString(line)
		}
		block, err := base64.StdEncoding.DecodeString(encoded.String())
		if err != nil {
			return nil, fmt.Errorf("a key block is not base64: %w", err)
		}
		out = append(out, block...)
	}
	if len(out) == 0 {
		return nil, errors.New("no key block found")
	}
	return out, nil
}
