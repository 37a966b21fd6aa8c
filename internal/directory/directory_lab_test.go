// SPDX-License-Identifier: Apache-2.0

//go:build lab

package directory_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// place is a domain, a bare box in it, and what a box builds its clients of.
type place struct {
	*lab.Domain
	box     *lab.Box
	locator *directory.Locator
}

func start(t *testing.T, users, groups int) *place {
	t.Helper()
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: users, Groups: groups}})
	p := &place{Domain: d, box: d.StartBox(t, "nas1", lab.BoxOptions{})}
	p.locator = p.locate(t, directory.LocatorConfig{Domain: d.DNS, DNS: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(d.DC.IP()), 0)}})
	return p
}

func (p *place) locate(t *testing.T, cfg directory.LocatorConfig) *directory.Locator {
	t.Helper()
	cfg.Dial = p.box.Dial
	l, err := directory.NewLocator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (p *place) kerberos() *kerberos.Client {
	return kerberos.NewClient(kerberos.Config{Realm: p.Realm(), Servers: p.locator, Dial: p.box.Dial})
}

// as returns a client for one of the domain's accounts.
func (p *place) as(t *testing.T, who kerberos.Principal, with kerberos.Secret) *directory.Client {
	t.Helper()
	s := kerberos.NewSession(p.kerberos(), who, with)
	c := directory.NewClient(directory.Config{Locator: p.locator, Credential: s, Dial: p.box.Dial})
	t.Cleanup(func() { _ = c.Close(); s.Close() })
	return c
}

func (p *place) asUser(t *testing.T, n int) *directory.Client {
	return p.as(t, kerberos.Enterprise(lab.UserName(n)+"@"+p.UPNSuffix, p.Realm()), password(lab.UserPassword(n)))
}

func password(s string) kerberos.Secret { return kerberos.Password(secret.FromString(s)) }

func (p *place) conn(t *testing.T, c *directory.Client) *directory.Conn {
	t.Helper()
	conn, err := c.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestLabDiscovery(t *testing.T) {
	p := start(t, 200, 40)
	dc := netip.AddrPortFrom(netip.MustParseAddr(p.DC.IP()), 0)
	for name, tc := range map[string]struct {
		cfg  directory.LocatorConfig
		want fault.Kind
	}{
		"by DNS":               {directory.LocatorConfig{Domain: strings.ToUpper(p.DNS), DNS: []netip.AddrPort{dc}}, 0},
		"by the second of two": {directory.LocatorConfig{Domain: p.DNS, DNS: []netip.AddrPort{netip.MustParseAddrPort("10.77.0.250:53"), dc}}, 0},
		"by address":           {directory.LocatorConfig{Domain: p.DNS, DCs: []string{p.DC.IP()}}, 0},
		"by address alone":     {directory.LocatorConfig{DCs: []string{p.DC.IP()}}, 0},
		"by name":              {directory.LocatorConfig{Domain: p.DNS, DCs: []string{p.DC.FQDN()}, DNS: []netip.AddrPort{dc}}, 0},
		"one of two is dead":   {directory.LocatorConfig{Domain: p.DNS, DCs: []string{"10.77.0.250", p.DC.IP()}}, 0},
		"no such domain":       {directory.LocatorConfig{Domain: "nowhere.test", DNS: []netip.AddrPort{dc}}, fault.NotFound},
		"another domain's DC":  {directory.LocatorConfig{Domain: "nowhere.test", DCs: []string{p.DC.IP()}}, fault.NotFound},
		"dead DC":              {directory.LocatorConfig{Domain: p.DNS, DCs: []string{"10.77.0.250"}}, fault.Unreachable},
	} {
		found, err := p.locate(t, tc.cfg).Discover(t.Context())
		if fault.KindOf(err) != tc.want || (err != nil && fault.Remedy(err) == "") {
			t.Errorf("%s: %v (remedy %q), want %v", name, err, fault.Remedy(err), tc.want)
			continue
		}
		if err != nil {
			continue
		}
		if d := found[0]; len(found) != 1 || d.Host != p.DC.FQDN() || d.Addr.String() != p.DC.IP() || d.NetBIOS != p.NetBIOS || d.DNSDomain != p.DNS ||
			d.Realm() != p.Realm() || d.Site == "" || d.Site != d.ClientSite || !d.Flags.Has(directory.DCIsKDC|directory.DCIsLDAP|directory.DCIsWritable) {
			t.Errorf("%s: %+v", name, found)
		}
	}
	if err := p.DC.Blackhole(t.Context(), 389); err != nil {
		t.Fatal(err)
	}
	if _, err := p.locate(t, directory.LocatorConfig{Domain: p.DNS, DNS: []netip.AddrPort{dc}}).Discover(t.Context()); !fault.Is(err, fault.Unreachable) {
		t.Errorf("port 389 is closed: %v, want unreachable", err)
	}
}

func TestLabReadTheDomain(t *testing.T) {
	p := start(t, 200, 40)
	conn := p.conn(t, p.asUser(t, 1))
	ctx := t.Context()
	d, err := conn.Domain(ctx)
	if err != nil || d.NetBIOS != p.NetBIOS || d.DNS != p.DNS || d.SyncedOU != p.UsersDN() || d.ComputersOU != p.ComputersDN() ||
		!slices.Contains(d.UPNSuffixes, p.UPNSuffix) || d.Policy.LockoutThreshold != 5 || d.Policy.LockoutWindow != 2*time.Minute || d.Policy.MaxAge != 90*24*time.Hour {
		t.Errorf("Domain = %+v, %v", d, err)
	}
	dse, err := conn.RootDSE(ctx)
	if err != nil || dse.DNSHost != p.DC.FQDN() || dse.InvocationID.IsZero() || time.Since(dse.CurrentTime).Abs() > time.Minute {
		t.Errorf("RootDSE = %+v, %v", dse, err)
	}
	objects := map[string]directory.Object{}
	if _, err := conn.ReadAll(ctx, 0, func(o directory.Object) error {
		objects[o.SAMAccountName] = o
		if len(o.Defects) > 0 {
			t.Errorf("%s: %q", o.SAMAccountName, o.Defects)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, absent := range []string{"DC1$", "krbtgt$"} {
		if o, ok := objects[absent]; ok {
			t.Errorf("%+v is among the people", o)
		}
	}
	want, err := p.Find(ctx, "user00007")
	if err != nil {
		t.Fatal(err)
	}
	o := objects["user00007"]
	if o.SID != want.SID || o.ObjectGUID != want.GUID || o.OID.String() != want.OID || !o.UnderSyncedOU || o.Class != directory.ClassUser ||
		o.UPN != "user00007@"+p.UPNSuffix || o.PrimaryGroupID != 513 || o.UserAccountControl&directory.UACNormal == 0 || o.PwdLastSet.IsZero() || o.WhenCreated.IsZero() {
		t.Errorf("user00007 = %+v, want %+v", o, want)
	}
	big := objects["everyone-big"]
	if big.Class != directory.ClassGroup || len(big.Members) != 200 || !big.UnderSyncedOU {
		t.Errorf("everyone-big has %d members, class %v", len(big.Members), big.Class)
	}
	if !slices.ContainsFunc(big.Members, func(r directory.Reference) bool { return r.GUID == want.GUID && r.SID == want.SID && r.DN == want.DN }) {
		t.Errorf("user00007 is not among %+v…", big.Members[:3])
	}
	if admins := objects["Domain Admins"]; admins.UnderSyncedOU || !admins.OID.IsZero() || admins.GroupType&directory.GroupGlobal == 0 {
		t.Errorf("Domain Admins = %+v", admins)
	}
	for name, key := range map[string]identity.Key{
		"SID": {Kind: identity.BySID, SID: want.SID}, "GUID": {Kind: identity.ByObjectGUID, GUID: want.GUID}, "oid": {Kind: identity.ByOID, GUID: o.OID},
		"account": {Kind: identity.ByName, Name: "USER00007"}, "UPN": {Kind: identity.ByName, Name: "User00007@Contoso.test"},
		"with domain": {Kind: identity.ByName, Name: `aaddscontoso\user00007`}, "at domain": {Kind: identity.ByName, Name: "user00007@aadds.contoso.test"},
	} {
		if got, err := conn.ReadOne(ctx, key); err != nil || got.ObjectGUID != want.GUID {
			t.Errorf("by %s: %+v, %v", name, got, err)
		}
	}
	for name, key := range map[string]identity.Key{
		"a computer": {Kind: identity.ByName, Name: "DC1$"}, "nobody": {Kind: identity.ByName, Name: "nobody"}, "a SID": {Kind: identity.BySID, SID: want.SID.Domain().WithRID(99999)},
	} {
		if got, err := conn.ReadOne(ctx, key); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %+v, %v, want not found", name, got, err)
		}
	}
	groups, err := conn.TokenGroups(ctx, "<SID="+objects["user00000"].SID.String()+">")
	if err != nil || len(groups) < 42 || !slices.Contains(groups, big.SID) {
		t.Errorf("TokenGroups = %d, %v, want more than 42 with everyone-big", len(groups), err)
	}
	ids := 0
	if n, err := conn.ReadIDs(ctx, func(id directory.ID) error {
		if slices.ContainsFunc([]string{"user00007", "everyone-big"}, func(s string) bool {
			return objects[s].ObjectGUID == id.ObjectGUID && objects[s].OID == id.OID && objects[s].SID == id.SID
		}) {
			ids++
		}
		return nil
	}); err != nil || n != len(objects) || ids != 2 {
		t.Errorf("ReadIDs = %d, %v, want %d", n, err, len(objects))
	}
	// Only what changed.
	if err := p.SetAttr(ctx, "user00008", "displayName", []byte("New Name")); err != nil {
		t.Fatal(err)
	}
	var changed []string
	if _, err := conn.ReadAll(ctx, dse.HighestCommittedUSN+1, func(o directory.Object) error {
		changed = append(changed, o.SAMAccountName+"="+o.DisplayName)
		return nil
	}); err != nil || !slices.Equal(changed, []string{"user00008=New Name"}) {
		t.Errorf("since then %v changed, %v, want user00008", changed, err)
	}
}

func TestLabHostileAttributes(t *testing.T) {
	p := start(t, 200, 40)
	ctx := t.Context()
	if err := errors.Join(p.SetAttr(ctx, "user00010", "displayName", []byte("Bad\nName")),
		p.SetAttr(ctx, "user00011", "msDS-aadObjectId", []byte("------------------------------------")),
		p.SetAttr(ctx, "user00012", "sIDHistory", []byte("\x01\x02\x00\x00\x00\x00\x00\x05\x15\x00\x00\x00\xff\xff\xff\xff"))); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(ctx, lab.Change{Op: "add", DN: `CN=x\2cOU\3dAADDC Users,` + p.BaseDN(), Set: map[string][][]byte{
		"objectClass": lab.Text("user"), "sAMAccountName": lab.Text("pretender"), "msDS-aadObjectId": lab.Text("00000000-0000-0000-0000-00000000000a")}}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]directory.Object{}
	n, err := p.conn(t, p.asUser(t, 1)).ReadAll(ctx, 0, func(o directory.Object) error { seen[o.SAMAccountName] = o; return nil })
	if err != nil || n < 240 {
		t.Fatalf("ReadAll = %d, %v", n, err)
	}
	for name, defect := range map[string]string{"user00010": "displayName: ", "user00011": "msDS-aadObjectId: "} {
		if d := seen[name].Defects; len(d) != 1 || !strings.HasPrefix(d[0], defect) {
			t.Errorf("%s: defects %q, want %q", name, d, defect)
		}
	}
	if o := seen["user00012"]; len(o.SIDHistory) != 1 && len(o.Defects) != 1 {
		t.Errorf("user00012 = %+v", o)
	}
	if o, ok := seen["pretender"]; !ok || o.UnderSyncedOU || o.OID.IsZero() {
		t.Errorf("pretender = %+v: an object outside the OU passes for one inside", o)
	}
}

func TestLabRangesOfABigGroup(t *testing.T) {
	p := start(t, 5000, 500)
	ctx := t.Context()
	conn := p.conn(t, p.asUser(t, 1))
	read := func(attribute string) []string {
		t.Helper()
		var members []string
		err := conn.Search(ctx, directory.Query{Base: p.UsersDN(), Scope: directory.Subtree, Filter: "(sAMAccountName=everyone-big)",
			Attributes: []string{attribute}, ExtendedDN: true}, func(e directory.Entry) error {
			for _, v := range e.Values("member") {
				members = append(members, directory.ParseReference(string(v)).GUID.String())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(members)
		return slices.Compact(members)
	}
	// Samba hands out all at once unless asked for less; the rest is fetched.
	whole, ranged := read("member"), read("member;range=0-1499")
	if len(whole) != 5000 || !slices.Equal(whole, ranged) {
		t.Errorf("%d members at once, %d by ranges, want 5000 both ways", len(whole), len(ranged))
	}
	count := 0
	n, err := conn.ReadAll(ctx, 0, func(o directory.Object) error { count += len(o.Members); return nil })
	if err != nil || n < 5500 || count < 15000 {
		t.Errorf("ReadAll = %d objects with %d members, %v", n, count, err)
	}
}

func TestLabChangesAreNotified(t *testing.T) {
	p := start(t, 200, 40)
	want, err := p.Find(t.Context(), "user00020")
	if err != nil {
		t.Fatal(err)
	}
	c := p.asUser(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var once sync.Once
	var got directory.Changed
	err = c.Watch(ctx, func(directory.DC) {
		if err := p.SetAttr(ctx, "user00020", "displayName", []byte("Changed")); err != nil {
			t.Error(err)
		}
	}, func(h directory.Changed) {
		if h.ObjectGUID == want.GUID {
			once.Do(func() { got = h; cancel() })
		}
	})
	if !errors.Is(err, context.Canceled) || got.USNChanged == 0 {
		t.Errorf("Watch = %v with %+v, want a hint about %v", err, got, want.GUID)
	}
	ready := make(chan error, 1)
	go func() {
		err := c.Watch(t.Context(), func(directory.DC) { ready <- nil }, func(directory.Changed) {})
		ready <- err
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	if err := p.DC.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ready; !fault.Is(err, fault.Unreachable) {
		t.Errorf("when the DC stops: %v, want unreachable", err)
	}
}
