// SPDX-License-Identifier: Apache-2.0

package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Of the certificate that we make ourselves.
const (
	ownLife    = 397 * 24 * time.Hour
	renewFirst = 30 * 24 * time.Hour
	lookEvery  = time.Minute // for a file that was changed
	ownFile    = "web-cert.pem"
	ownKeyFile = "web-key.pem"
)

const certificateRemedy = "web.certificate and web.key are PEM files that the user latchkey has to be able to read; the key must not have a password"

// certificates has the certificate in use: the administrator's, or one of our
// own, made at the first start, kept, and renewed in time.
type certificates struct {
	folder   string
	settings func() Settings
	log      *slog.Logger
	now      func() time.Time

	mu     sync.Mutex
	inUse  *tls.Certificate
	own    bool
	files  string // that inUse was read from
	looked time.Time
	warned string
	failed error // why the administrator's is not in use
}

// get is for tls.Config.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil {
		return nil, err
	}
	return c.inUse, nil
}

// trusted says whether the certificate is the administrator's.
func (c *certificates) trusted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inUse != nil && !c.own
}

// CertificateError says why the administrator's certificate or a newer one of
// its is not in use; nil when it is, and where none is named. It carries a
// remedy.
func (s *Server) CertificateError() error {
	c := s.certs
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil {
		return err
	}
	return c.failed
}

// refresh reads the files again where they may have changed. A file that cannot
// be read is logged, and what was in use stays; at the start, one of our own
// takes its place, for without a certificate nobody could be told anything.
func (c *certificates) refresh() error {
	now := c.now()
	set := c.settings()
	files := set.Certificate + "\x00" + set.Key
	if c.inUse != nil && files == c.files && now.Sub(c.looked) < lookEvery {
		return nil
	}
	c.looked, c.failed = now, nil
	if set.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(set.Certificate, set.Key)
		if err == nil {
			c.inUse, c.own, c.files, c.warned = &pair, false, files, ""
			return nil
		}
		c.failed = fault.WithRemedy(fault.Wrap(fault.Malformed, "read the certificate of the web sign-in", err), certificateRemedy)
		if text := err.Error(); text != c.warned {
			c.warned = text
			c.log.Error("the certificate of the web sign-in cannot be read", "certificate", set.Certificate, "key", set.Key, "error", err, "remedy", certificateRemedy)
		}
		if c.inUse != nil {
			return nil
		}
	}
	pair, err := c.ours(c.names(), now)
	if err != nil {
		return err
	}
	c.inUse, c.own, c.files = pair, true, files
	return nil
}

// ours returns the kept certificate, or makes one where there is none, it ends
// soon, or it is for other names.
func (c *certificates) ours(names []string, now time.Time) (*tls.Certificate, error) {
	const op = "make a certificate for the web sign-in"
	certFile, keyFile := filepath.Join(c.folder, ownFile), filepath.Join(c.folder, ownKeyFile)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil && pair.Leaf != nil && pair.Leaf.NotAfter.Sub(now) > renewFirst && !now.Before(pair.Leaf.NotBefore) && slices.Equal(pair.Leaf.DNSNames, names) {
		return &pair, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("the certificate that was kept cannot be used, a new one takes its place", "error", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: names[0], Organization: []string{"latchkey, self-signed"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(ownLife), DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := errors.Join(replace(keyFile, keyPEM, 0o600), replace(certFile, certPEM, 0o644)); err != nil {
		c.log.Warn("the certificate of the web sign-in cannot be kept; the next start makes another", "error", err)
	}
	c.log.Info("the web sign-in has a new self-signed certificate", "names", strings.Join(names, " "), "until", t.NotAfter)
	made, err := tls.X509KeyPair(certPEM, keyPEM)
	return &made, fault.Wrap(fault.Internal, op, err)
}

// replace writes a file under another name and renames it.
func replace(path string, text []byte, mode os.FileMode) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, mode); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// names are those of the certificate, never none.
func (c *certificates) names() []string {
	var names []string
	for _, n := range append(hostnames(c.settings()), "localhost") {
		if !slices.Contains(names, n) && net.ParseIP(n) == nil {
			names = append(names, n)
		}
	}
	return names
}

// names are those by which browsers may reach the machine.
func (s *Server) names() []string { return hostnames(s.c.Settings()) }

func hostnames(set Settings) []string {
	if len(set.Hostnames) > 0 {
		return set.Hostnames
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		return []string{strings.ToLower(name)}
	}
	return nil
}
