// SPDX-License-Identifier: Apache-2.0

//go:build lab

package login_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/mirror"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
	"github.com/latchkey-nas/latchkey/internal/netlogon/ntlmtest"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// ground is a real domain with a machine account in it, and everything that a
// sign-in asks, in this process: the product without its doors.
type ground struct {
	*lab.Domain
	t       testing.TB
	store   *store.Store
	client  *directory.Client
	mirror  *mirror.Mirror
	pool    *netlogon.Pool
	login   *login.Login
	keytab  string
	wire    wire
	skew    atomic.Int64
	lockout atomic.Pointer[login.Lockout]
	set     atomic.Pointer[login.Settings]

	mu       sync.Mutex
	password string // of the machine
}

// wire breaks connections to the KDC on demand.
type wire struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// tgs sees each request for a service ticket before it is sent; false keeps
	// it from being sent, an error breaks the connection.
	tgs atomic.Pointer[func() (bool, error)]
	// silent: whoever is asked on port 88 takes everything and answers nothing.
	silent atomic.Bool
}

func (w *wire) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := w.dial(ctx, network, address)
	if _, port, _ := net.SplitHostPort(address); err != nil || port != "88" {
		return c, err
	}
	return &kdcConn{Conn: c, wire: w}, nil
}

type kdcConn struct {
	net.Conn
	wire *wire
}

// Write looks for the tag of a TGS-REQ (RFC 4120 5.4.1: APPLICATION 12) behind
// the length.
func (c *kdcConn) Write(b []byte) (int, error) {
	if c.wire.silent.Load() {
		return len(b), nil
	}
	if f := c.wire.tgs.Load(); f != nil && len(b) > 4 && b[4] == 0x6c {
		if send, err := (*f)(); err != nil || !send {
			return len(b), err
		}
	}
	return c.Conn.Write(b)
}

const machineName = "NAS1$"

func newGround(t testing.TB) *ground {
	t.Helper()
	ctx := t.Context()
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	g := &ground{Domain: d, t: t, keytab: filepath.Join(t.TempDir(), "krb5.keytab"), password: "Maschine-Passw0rd!1"}
	g.wire.dial = d.StartBox(t, "nas1", lab.BoxOptions{UseDNS: true}).Dial
	g.set.Store(&login.Settings{PasswordURL: "https://password.example.test"})
	g.lockout.Store(&login.Lockout{})
	if _, err := d.Apply(ctx, lab.Change{Op: "add", DN: "CN=NAS1,CN=Computers," + d.BaseDN(), Set: map[string][][]byte{
		"objectClass": lab.Text("computer"), "sAMAccountName": lab.Text(machineName), "userAccountControl": lab.Text("4096"),
		"msDS-SupportedEncryptionTypes": lab.Text("24"), "servicePrincipalName": lab.Text("host/nas1." + d.DNS)}}); err != nil {
		t.Fatal(err)
	}
	pool := kerberos.NewPool(netip.MustParseAddr(d.DC.IP()))
	kdc := kerberos.NewClient(kerberos.Config{Realm: d.Realm(), Servers: pool, Dial: g.wire.Dial, Now: g.now})
	g.rotate(kdc)

	locator, err := directory.NewLocator(directory.LocatorConfig{Domain: d.DNS, DCs: []string{d.DC.IP()}, Dial: g.wire.dial})
	if err != nil {
		t.Fatal(err)
	}
	straight := kerberos.NewClient(kerberos.Config{Realm: d.Realm(), Servers: pool, Dial: g.wire.dial})
	session := kerberos.NewSession(straight, kerberos.Account(machineName, d.Realm()), kerberos.Password(secret.FromString(g.password)))
	g.client = directory.NewClient(directory.Config{Locator: locator, Credential: session, Dial: g.wire.dial})
	t.Cleanup(func() { _ = g.client.Close(); session.Close() })

	quiet := slog.New(slog.NewTextHandler(t.Output(), nil))
	if g.store, err = store.Open(ctx, filepath.Join(t.TempDir(), "db"), store.Options{Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.store.Close() })
	names := identity.Domain{NetBIOS: d.NetBIOS, DNS: d.DNS, Realm: d.Realm(), SID: identity.MustParseSID(d.SID())}
	ids, err := idmap.New(idmap.Config{}, names.SID)
	if err != nil {
		t.Fatal(err)
	}
	g.must(g.store.SetPolicy(ctx, store.Policy{Domain: names, IDs: ids, Reserved: idmap.Privileged()}))
	g.mirror = mirror.New(mirror.Config{Store: g.store, Directory: mirror.LDAP(g.client), Log: quiet})
	g.sync()

	g.pool = netlogon.New(netlogon.Config{Machine: g, Servers: g, Dial: g.wire.dial, Log: quiet})
	t.Cleanup(g.pool.Close)
	rec := audit.Open(filepath.Join(t.TempDir(), "audit.jsonl"), quiet)
	t.Cleanup(rec.Close)
	domain := &login.Domain{Realm: d.Realm(), Names: names, FQDN: "nas1." + d.DNS, Keytab: g.keytab, KDC: kdc, Refresh: g.mirror}
	g.login = login.New(login.Config{Store: g.store, Audit: rec, Log: quiet, Now: g.now, Domain: func() *login.Domain { return domain },
		NTLM: func() login.NTLMAuthority { return g.pool }, Settings: func() login.Settings { return *g.set.Load() },
		Lockout: func() login.Lockout { return *g.lockout.Load() }})
	t.Cleanup(g.login.Close)
	if _, err := g.login.SetRules(ctx, "test", "sshd", access.Allow, "*"); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *ground) now() time.Time { return time.Now().Add(time.Duration(g.skew.Load())) }

func (g *ground) must(errs ...error) {
	g.t.Helper()
	if err := errors.Join(errs...); err != nil {
		g.t.Fatal(err)
	}
}

func (g *ground) sync() {
	g.t.Helper()
	if _, err := g.mirror.Sync(g.t.Context(), mirror.Request{}, nil); err != nil {
		g.t.Fatal(err)
	}
}

// rotate gives the machine another password, in the domain and then in the
// keytab, where the old keys stay.
func (g *ground) rotate(kdc *kerberos.Client) {
	g.t.Helper()
	ctx := context.Background()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.password += "x"
	g.must(g.SetPassword(ctx, machineName, g.password))
	found, err := g.Search(ctx, g.BaseDN(), "(sAMAccountName="+machineName+")", "msDS-KeyVersionNumber")
	if err != nil || len(found) != 1 {
		g.t.Fatalf("the machine's kvno: %v, %v", found, err)
	}
	kvno, err := strconv.Atoi(found[0].Get("msDS-KeyVersionNumber"))
	g.must(err)
	keys := []kerberos.Key{}
	for _, e := range []kerberos.EType{kerberos.AES256, kerberos.AES128} {
		k, err := kerberos.DeriveKey(secret.FromString(g.password), kerberos.KeyInfo{EType: e, Salt: kerberos.MachineSalt(machineName, g.DNS)})
		g.must(err)
		keys = append(keys, k)
	}
	kt, err := kerberos.ReadKeytab(g.keytab)
	if err != nil {
		kt = &kerberos.Keytab{}
	}
	kt.Add(kerberos.MachineEntries([]kerberos.Principal{kerberos.Account(machineName, g.Realm()), kerberos.Service("host", "nas1."+g.DNS, g.Realm())},
		keys, uint32(kvno), time.Now())...)
	g.must(kt.WriteFile(g.keytab))
}

// Account is the machine's, for the secure channel.
func (g *ground) Account(context.Context) (*netlogon.Account, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &netlogon.Account{Domain: g.NetBIOS, Name: machineName, Passwords: []secret.Bytes{secret.FromString(g.password)}}, nil
}

// Servers are the domain controllers, for the secure channel.
func (g *ground) Servers(context.Context) ([]netlogon.Server, error) {
	return []netlogon.Server{{Name: g.DC.FQDN(), Addr: netip.MustParseAddr(g.DC.IP())}}, nil
}

// Good changes nothing.
func (*ground) Good(netip.Addr) {}

// Bad changes nothing.
func (*ground) Bad(netip.Addr) {}

func (g *ground) try(name, password string) (*login.Result, error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 30*time.Second)
	defer cancel()
	return g.login.Authenticate(ctx, login.Request{Name: name, Service: "sshd", Door: "test", RemoteHost: "192.0.2.9"}, secret.FromString(password))
}

func (g *ground) respond(user, password string) (*login.NTLMResult, error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 30*time.Second)
	defer cancel()
	a := ntlmtest.New(g.NetBIOS, user, password, ntlmtest.Info(g.NetBIOS, "NAS1"))
	r, err := g.login.VerifyNTLM(ctx, login.NTLMRequest{Request: login.Request{Name: user, Door: "winbind"}, Domain: g.NetBIOS, Workstation: "CLIENT",
		Challenge: a.Challenge, NT: a.NT, LM: a.LM, Parameters: 0x820})
	if err == nil && !bytes.Equal(r.Validation.SessionKey.Reveal(), a.Key[:]) {
		g.t.Errorf("%s: the session key is not the client's own", user)
	}
	return r, err
}

// attr reads an attribute of an account.
func (g *ground) attr(name, attr string) string {
	g.t.Helper()
	found, err := g.Search(g.t.Context(), g.BaseDN(), "(sAMAccountName="+name+")", attr)
	if err != nil || len(found) != 1 {
		g.t.Fatalf("%s of %s: %v, %v", attr, name, found, err)
	}
	return found[0].Get(attr)
}

// errLink is what a broken link looks like.
var errLink = &net.OpError{Op: "write", Net: "tcp", Err: fmt.Errorf("test: %w", syscall.EHOSTUNREACH)}
