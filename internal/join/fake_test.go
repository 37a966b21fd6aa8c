// SPDX-License-Identifier: Apache-2.0

package join

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

const (
	testDomain   = "aadds.contoso.test"
	testRealm    = "AADDS.CONTOSO.TEST"
	testBase     = "DC=aadds,DC=contoso,DC=test"
	testPassword = "Sesame-0pen-XyZ"
	computersOU  = "OU=AADDC Computers," + testBase
)

var (
	dcAddr    = netip.MustParseAddr("10.0.0.4")
	dc2Addr   = netip.MustParseAddr("10.0.0.5")
	domainSID = identity.MustParseSID("S-1-5-21-1-2-3")
)

// world is a domain in memory: a KDC that really checks, and a directory that
// does what it is told. Faults are injected by its fields.
type world struct {
	kdcs     *krbtest.KDC
	accounts map[string]*krbtest.Account // of computers

	mu      sync.Mutex
	objects map[string]map[string][][]byte // by DN
	rid     uint32
	asked   []string // "add CN=...", "modify ... attr"

	// refuse answers an operation of who with an LDAP result code; 0 is success.
	refuse func(who, op, dn string, attrs []string) uint16
	srv    map[string]error // by name server ("" is the machine's own): what it answers
	closed map[string]error // "10.0.0.4:88"
	dcs    []directory.DC
	found  error // of discover
	pings  map[netip.Addr]directory.DC
	skew   time.Duration

	lagging map[netip.Addr]*krbtest.KDC // domain controllers with a KDC of their own
	kpasswd func(to string) error       // answers a change of the machine's password; nil: the port is closed

	zoneErr error
	names   map[string][]netip.Addr // registered
	local   []netip.Addr
}

func newWorld() *world {
	w := &world{kdcs: krbtest.New(testRealm), accounts: map[string]*krbtest.Account{}, objects: map[string]map[string][][]byte{}, rid: 1100,
		srv: map[string]error{}, closed: map[string]error{}, pings: map[netip.Addr]directory.DC{}, names: map[string][]netip.Addr{},
		local: []netip.Addr{netip.MustParseAddr("192.168.1.7")}}
	w.kdcs.Now = func() time.Time { return time.Now().Add(-w.skew) }
	w.kdcs.Add(krbtest.Account{Name: []string{"alice"}, UPN: "alice@contoso.test", Password: testPassword})
	w.kdcs.Add(krbtest.Account{Name: []string{"DC1$"}, Password: "dc", DC: true, Aliases: [][]string{{"ldap", "dc1." + testDomain}, {"DNS", "dc1." + testDomain}}})
	w.dcs = []directory.DC{{Host: "dc1." + testDomain, Addr: dcAddr, NetBIOS: "AADDSCONTOSO", DNSDomain: testDomain, Flags: directory.DCIsWritable | directory.DCIsKDC}}
	w.objects[computersOU] = attrs("objectClass", "organizationalUnit")
	w.objects["OU=NAS,"+testBase] = attrs("objectClass", "organizationalUnit")
	w.objects["CN=Computers,"+testBase] = attrs("objectClass", "container")
	w.objects["CN=alice,OU=AADDC Users,"+testBase] = attrs("objectClass", "user", "sAMAccountName", "alice", "objectSid", string(domainSID.WithRID(1000).Bytes()))
	return w
}

// attrs makes attributes of pairs of name and value.
func attrs(pairs ...string) map[string][][]byte {
	m := map[string][][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = append(m[pairs[i]], []byte(pairs[i+1]))
	}
	return m
}

// joiner makes a Joiner in this world, with a store of its own.
func (w *world) joiner(t *testing.T) (*Joiner, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), filepath.Join(dir, "latchkey.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	var log bytes.Buffer
	j := New(Config{Memory: s, KeytabPath: filepath.Join(dir, "krb5.keytab"), Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Hostname: func() (string, error) { return "nas.home.lan", nil }, OperatingSystem: "latchkey"})
	j.net = w
	return j, &log
}

func (w *world) resolver(servers ...netip.AddrPort) resolver { return fakeResolver{w, servers} }

type fakeResolver struct {
	w       *world
	servers []netip.AddrPort
}

func (r fakeResolver) SRV(_ context.Context, name string) ([]directory.SRV, error) {
	server := ""
	if len(r.servers) > 0 {
		server = r.servers[0].Addr().String()
	}
	if err := r.w.srv[server]; err != nil {
		return nil, err
	}
	var all []directory.SRV
	for _, dc := range r.w.dcs {
		all = append(all, directory.SRV{Host: dc.Host, Port: 389})
	}
	return all, nil
}

func (r fakeResolver) Addrs(_ context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if all, ok := r.w.names[host]; ok && len(r.servers) == 1 && r.servers[0].Addr() == r.w.dcs[0].Addr {
		return all, nil
	}
	for _, dc := range r.w.dcs {
		if dc.Host == host {
			return []netip.Addr{dc.Addr}, nil
		}
	}
	return nil, fault.Errorf(fault.NotFound, "no such host %s", host)
}

func (w *world) dial(_ context.Context, _, address string) (net.Conn, error) {
	if err := w.closed[address]; err != nil {
		return nil, err
	}
	a, b := net.Pipe()
	go b.Close()
	return a, nil
}

func (w *world) discover(context.Context, *plan) ([]directory.DC, error) {
	return slices.Clone(w.dcs), w.found
}

func (w *world) ping(_ context.Context, a netip.Addr, _ string) (directory.DC, error) {
	if dc, ok := w.pings[a]; ok {
		return dc, nil
	}
	return directory.DC{}, fault.New(fault.Unreachable, "no answer")
}

func (w *world) client(dc netip.Addr) *kerberos.Client {
	k := w.kdcs
	if own := w.lagging[dc]; own != nil {
		k = own
	}
	return kerberos.NewClient(kerberos.Config{Realm: testRealm, Servers: kerberos.NewPool(dc), Dial: k.Dial})
}

func (w *world) kdc(_ string, dc netip.Addr) kdc { return fakeKDC{w.client(dc), w} }

// fakeKDC has a kpasswd service that does what the world says.
type fakeKDC struct {
	*kerberos.Client
	w *world
}

func (k fakeKDC) ChangePassword(ctx context.Context, who kerberos.Principal, with kerberos.Secret, to secret.Bytes) error {
	if k.w.kpasswd == nil {
		return fault.New(fault.Unreachable, "port 464 is closed")
	}
	if _, err := k.Login(ctx, who, with); err != nil {
		return err
	}
	return k.w.kpasswd(string(to.Reveal()))
}

func (w *world) bind(ctx context.Context, dc directory.DC, who kerberos.Principal, with kerberos.Secret) (tree, error) {
	s := kerberos.NewSession(w.client(dc.Addr), who, with)
	defer s.Close()
	if _, err := s.Ticket(ctx, "ldap", dc.Host); err != nil {
		return nil, err
	}
	return &fakeTree{w, who.Name[0]}, nil
}

func (w *world) addresses(netip.Addr) ([]netip.Addr, error) { return w.local, nil }

func (w *world) zone(context.Context, directory.DC, *kerberos.Ticket) (zone, error) {
	return w, w.zoneErr
}

// register and unregister do what a DNS server does with the object of a name:
// it belongs to the account that made it, and is left behind dead.
func (w *world) register(_ context.Context, host string, addrs []netip.Addr) (registered, error) {
	_, account, err := (&fakeTree{w: w}).find(w.computer())
	if err != nil {
		return registered{}, err
	}
	owner := string(account["objectSid"][0])
	if node, ok := w.objects[w.node(host)]; ok && string(node["owner"][0]) != owner {
		return registered{}, fault.New(fault.Internal, "the DNS server answers SERVFAIL")
	}
	w.objects[w.node(host)] = attrs("objectClass", "dnsNode", "owner", owner)
	w.names[host] = addrs
	return registered{addrs: addrs}, nil
}

func (w *world) unregister(_ context.Context, host string, _ []netip.Addr) error {
	delete(w.names, host)
	if node, ok := w.objects[w.node(host)]; ok {
		node["dNSTombstoned"] = [][]byte{[]byte("TRUE")}
	}
	return nil
}

// computer is the DN of the machine's account, node that of its DNS name.
func (w *world) computer() string {
	for dn, a := range w.objects {
		if len(a["sAMAccountName"]) == 1 && string(a["sAMAccountName"][0]) == "NAS$" {
			return dn
		}
	}
	return "CN=nobody"
}

func (w *world) node(host string) string {
	label, zone, _ := strings.Cut(host, ".")
	return "DC=" + label + ",DC=" + zone + ",CN=MicrosoftDNS,DC=DomainDnsZones," + testBase
}

func (w *world) close() {}

// steps collects progress.
type steps []Step

func (s *steps) tell(one Step) { *s = append(*s, one) }

// last returns the last word on a step.
func (s steps) last(id string) Step {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i].ID == id {
			return s[i]
		}
	}
	return Step{}
}

func request() Request {
	return Request{Domain: testDomain, User: "alice", Password: secret.FromString(testPassword)}
}

// recordingKeys is root's copy of the host keys.
type recordingKeys struct {
	err     error
	install []krb5conf.Host
	keytab  []byte
	remove  []krb5conf.Host
}

func (r *recordingKeys) Install(_ context.Context, k krb5conf.HostKeys) error {
	r.install = append(r.install, k.Host)
	r.keytab = bytes.Clone(k.Keytab.Reveal())
	return r.err
}

func (r *recordingKeys) Remove(_ context.Context, h krb5conf.Host) error {
	r.remove = append(r.remove, h)
	return r.err
}

var refusedPort error = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

func krbAlice(password string) krbtest.Account {
	return krbtest.Account{Name: []string{"alice"}, UPN: "alice@contoso.test", Password: password}
}

// krbNoKey is a person who has not changed the password since the managed
// domain exists.
func krbNoKey() krbtest.Account {
	return krbtest.Account{Name: []string{"bob"}, Code: int32(kerberos.CodeNullKey), NoPreAuth: true}
}

func krbHours() krbtest.Account {
	return krbtest.Account{Name: []string{"carol"}, Password: testPassword, Code: int32(kerberos.CodeClientRevoked), Status: uint32(kerberos.StatusLogonHours)}
}

// brokenMemory has a full disk.
type brokenMemory struct{ Memory }

func (brokenMemory) PutMachine(context.Context, *store.Machine) error {
	return fault.New(fault.Internal, "no space left on device")
}
