// SPDX-License-Identifier: Apache-2.0

//go:build lab

package lab

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

func stringReader(text string) io.Reader { return strings.NewReader(text) }

// ldap runs one of the LDAP tools with the box's ticket.
func ldap(t *testing.T, box *Box, d *Domain, input string, args ...string) *Result {
	t.Helper()
	command := box.Command(append([]string{args[0], "-Q", "-N", "-Y", "GSSAPI", "-H", "ldap://" + d.DC.FQDN()}, args[1:]...)...)
	command.Stdin = stringReader(input)
	result, err := command.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestDomainIsShapedLikeEntraDS(t *testing.T) {
	d, box := member(t, DomainOptions{Population: Population{Users: 3, Groups: 2}})
	if result := kinit(t, box, UserName(1), UserPassword(1)); !result.Ok() {
		t.Fatalf("kinit by account name: %s", result)
	}
	if result := kinit(t, box, UserName(1)+"@contoso.test", UserPassword(1), "-E"); !result.Ok() {
		t.Fatalf("kinit by a UPN that is not the realm: %s", result)
	}
	for _, tc := range []struct{ name, base, filter, attr, want string }{
		{"user's object id", d.UsersDN(), "(sAMAccountName=user00002)", "msDS-aadObjectId", d.oid("user", "2")},
		{"user's nickname", d.UsersDN(), "(sAMAccountName=user00002)", "msDS-AzureADMailNickname", "user00002"},
		{"user's UPN", d.UsersDN(), "(sAMAccountName=user00002)", "userPrincipalName", "user00002@contoso.test"},
		{"group's object id", d.UsersDN(), "(sAMAccountName=group0001)", "msDS-AzureADObjectId", d.oid("group", "1")},
		{"UPN suffix", "CN=Partitions,CN=Configuration," + d.BaseDN(), "(objectClass=crossRefContainer)", "uPNSuffixes", "contoso.test"},
		{"lockout threshold", d.BaseDN(), "(objectClass=domain)", "lockoutThreshold", "5"},
		{"lockout window", d.BaseDN(), "(objectClass=domain)", "lockOutObservationWindow", "-1200000000"},
		{"lockout duration", d.BaseDN(), "(objectClass=domain)", "lockoutDuration", "-18000000000"},
		{"computers of the domain", d.ComputersDN(), "(objectClass=organizationalUnit)", "name", "AADDC Computers"},
	} {
		result := ldap(t, box, d, "", "ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-b", tc.base, tc.filter, tc.attr)
		if want := tc.attr + ": " + tc.want + "\n"; !strings.Contains(result.Stdout, want) {
			t.Errorf("%s: got %s, want %q in it", tc.name, result, want)
		}
	}
	schema := ldap(t, box, d, "", "ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-s", "base", "-b", "CN=Aggregate,CN=Schema,CN=Configuration,"+d.BaseDN(), "attributeTypes")
	for _, attr := range []string{"msDS-aadObjectId", "msDS-AzureADObjectId", "msDS-AzureADMailNickname"} {
		if !strings.Contains(schema.Stdout, "NAME '"+attr+"'") {
			t.Errorf("attribute %s is not in the schema", attr)
		}
	}
	if got := must(t, box.Machine, "dig", "+short", "SRV", "_ldap._tcp.dc._msdcs."+d.DNS); !strings.Contains(got, d.DC.FQDN()) {
		t.Errorf("SRV record of the domain: got %q, want %s in it", got, d.DC.FQDN())
	}
}

func TestAnyUserCreatesComputersInOneOUOnly(t *testing.T) {
	d, box := member(t, DomainOptions{})
	if result := kinit(t, box, JoinUser, JoinPassword); !result.Ok() {
		t.Fatal(result)
	}
	for parent, wantCode := range map[string]int{
		d.ComputersDN():              0,
		"CN=Computers," + d.BaseDN(): 50,
		d.UsersDN():                  50,
		d.BaseDN():                   50,
	} {
		ldif := fmt.Sprintf("dn: CN=NASX,%s\nobjectClass: computer\nsAMAccountName: NASX$\nuserAccountControl: 4096\nservicePrincipalName: host/nasx.%s\ndNSHostName: nasx.%s\n", parent, d.DNS, d.DNS)
		if got := ldap(t, box, d, ldif, "ldapadd"); got.Exit != wantCode {
			t.Errorf("creating a computer in %s: got %s, want LDAP result %d", parent, got, wantCode)
		}
	}
}

// TestPeersCanJoin shows that a domain member made by other software finds all
// it asks for, as an ordinary user and without naming a container.
func TestPeersCanJoin(t *testing.T) {
	d := Start(t, DomainOptions{})
	for name, tc := range map[string]struct{ join, check string }{
		"adcli": {"adcli join --domain=$1 --login-user=$2 --stdin-password", "kinit -k 'ADCLI$'"},
		"net": {`printf '[global]\nrealm=%s\nworkgroup=AADDSCONTOSO\nsecurity=ads\n' "$1" >/etc/samba/smb.conf; PASSWD=$(cat) net ads join -U "$2"`,
			"net ads testjoin"},
	} {
		box := d.StartBox(t, name, BoxOptions{UseDNS: true, Krb5Conf: true})
		join := box.Command("sh", "-euc", tc.join, "join", d.DNS, JoinUser)
		join.Stdin = stringReader(JoinPassword)
		if result, err := join.Run(t.Context()); err != nil || !result.Ok() {
			t.Fatalf("join by %s: %v %s", name, err, result)
		}
		must(t, box.Machine, "sh", "-euc", tc.check)
		computer, err := d.Find(t.Context(), strings.ToUpper(name)+"$")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(computer.DN, d.ComputersDN()) {
			t.Errorf("join by %s: the computer is %s, want it in %s", name, computer.DN, d.ComputersDN())
		}
	}
}

func TestClearTextBindIsRefused(t *testing.T) {
	d, box := member(t, DomainOptions{})
	bind := func(url string) *Result {
		command := box.Command("ldapsearch", "-x", "-H", url, "-D", JoinUser+"@contoso.test", "-w", JoinPassword, "-s", "base", "-b", d.BaseDN())
		ca, err := d.CA(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := box.WriteFile(t.Context(), "/tmp/ca.pem", ca, 0o644); err != nil {
			t.Fatal(err)
		}
		command.Env = []string{"LDAPTLS_CACERT=/tmp/ca.pem", "LDAPTLS_REQCERT=demand"}
		result, err := command.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	const strongerAuthRequired = 8
	if got := bind("ldap://" + d.DC.FQDN()); got.Exit != strongerAuthRequired {
		t.Errorf("simple bind in clear: got %s, want LDAP result %d", got, strongerAuthRequired)
	}
	if got := bind("ldaps://" + d.DC.FQDN()); !got.Ok() {
		t.Errorf("simple bind over TLS with a verified certificate: got %s", got)
	}
}

func TestKDCSpeaksAESOnly(t *testing.T) {
	d, box := member(t, DomainOptions{})
	for etype, want := range map[string]bool{"aes256-cts-hmac-sha1-96": true, "aes128-cts-hmac-sha1-96": true, "arcfour-hmac": false} {
		conf := krb5Conf(d.DomainOptions) + "\tallow_weak_crypto = true\n\tpermitted_enctypes = " + etype + "\n"
		if err := box.WriteFile(t.Context(), "/etc/krb5.conf", []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := kinit(t, box, JoinUser, JoinPassword); got.Ok() != want {
			t.Errorf("kinit with %s: got %s, want success %v", etype, got, want)
		}
	}
}

func TestFiveBadPasswordsLockOut(t *testing.T) {
	d, box := member(t, DomainOptions{Population: Population{Users: 2}})
	for attempt := 1; attempt <= 4; attempt++ {
		kinit(t, box, UserName(0), "wrong")
	}
	if got := kinit(t, box, UserName(0), UserPassword(0)); !got.Ok() {
		t.Fatalf("right password after 4 wrong ones: %s", got)
	}
	for attempt := 1; attempt <= 5; attempt++ {
		kinit(t, box, UserName(0), "wrong")
	}
	if got := kinit(t, box, UserName(0), UserPassword(0)); got.Ok() || !strings.Contains(got.Stderr, "revoked") {
		t.Errorf("right password after 5 wrong ones: got %s, want it revoked", got)
	}
	if got := kinit(t, box, UserName(1), UserPassword(1)); !got.Ok() {
		t.Errorf("another user meanwhile: %s", got)
	}
	if err := d.Unlock(t.Context(), UserName(0)); err != nil {
		t.Fatal(err)
	}
	if got := kinit(t, box, UserName(0), UserPassword(0)); !got.Ok() {
		t.Errorf("after unlocking: %s", got)
	}
}

func TestPopulationIsComplete(t *testing.T) {
	d := Start(t, DomainOptions{Population: Population{Users: 200, Groups: 40}})
	count := func(filter string) int {
		t.Helper()
		found, err := d.Search(t.Context(), d.UsersDN(), filter, "sAMAccountName")
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if got := count("(sAMAccountName=user0*)"); got != 200 {
		t.Errorf("users: got %d, want 200", got)
	}
	if got := count("(sAMAccountName=group0*)"); got != 40 {
		t.Errorf("groups: got %d, want 40", got)
	}
	if got := count("(member=" + d.UserDN(UserName(0)) + ")"); got != 41 {
		t.Errorf("groups of user00000: got %d, want all 40 and everyone-big", got)
	}
	// The same again on a domain that runs, beside those that are there.
	if err := d.Populate(t.Context(), Population{Demo: true}); err != nil {
		t.Fatal(err)
	}
	if got := count("(&(objectClass=user)(company=Contoso))"); got != len(demoPeople) {
		t.Errorf("people of the demo: got %d, want %d", got, len(demoPeople))
	}
	if got := count("(userAccountControl:1.2.840.113556.1.4.803:=2)"); got != 1 {
		t.Errorf("disabled people: got %d, want 1", got)
	}
}

func TestSecondStartUsesTheTemplate(t *testing.T) {
	options := DomainOptions{Population: Population{Users: 3}}
	first := Start(t, options)
	if _, err := first.AddUser(t.Context(), User{Name: "only.here"}); err != nil {
		t.Fatal(err)
	}
	var steps []string
	l, err := Up(t.Context(), Options{Progress: func(s Step) { steps = append(steps, s.Name) }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	second, err := l.Domain(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if strings.Contains(step, "provisioning") || strings.Contains(step, "filling") {
			t.Errorf("the second start did %q again", step)
		}
	}
	// Two labs side by side with the same addresses, each with its own copy.
	if _, err := second.Find(t.Context(), "only.here"); err == nil {
		t.Error("a change in one lab is seen in another")
	}
	if _, err := second.Find(t.Context(), UserName(2)); err != nil {
		t.Error(err)
	}
}

func TestRebuiltDomainHasOtherSIDs(t *testing.T) {
	ctx := t.Context()
	d := Start(t, DomainOptions{Population: Population{Users: 20}})
	type ids struct {
		sid identity.SID
		oid string
	}
	read := func() map[string]ids {
		all := map[string]ids{}
		for i := range 20 {
			object, err := d.Find(ctx, UserName(i))
			if err != nil {
				t.Fatal(err)
			}
			all[object.Name] = ids{object.SID, object.OID}
		}
		return all
	}
	before := read()
	oldSID := d.SID()
	if err := d.Rebuild(ctx, "rebuilt", Population{Users: 30}); err != nil {
		t.Fatal(err)
	}
	after := read()
	moved := 0
	for name, was := range before {
		is := after[name]
		if is.oid != was.oid {
			t.Errorf("%s: object id changed from %s to %s", name, was.oid, is.oid)
		}
		if !was.sid.In(identity.MustParseSID(oldSID)) || !is.sid.In(identity.MustParseSID(d.SID())) || d.SID() == oldSID {
			t.Errorf("%s: SID %s became %s, want one of domain %s", name, was.sid, is.sid, d.SID())
		}
		oldRID, _ := was.sid.RID()
		newRID, _ := is.sid.RID()
		if oldRID != newRID {
			moved++
		}
	}
	if moved < 15 {
		t.Errorf("only %d of 20 people have another RID", moved)
	}
}

func TestDomainWithAnotherName(t *testing.T) {
	d, box := member(t, DomainOptions{DNS: "corp.fabrikam.test", NetBIOS: "FABRIKAM", UPNSuffix: "fabrikam.test"})
	if got := kinit(t, box, JoinUser+"@fabrikam.test", JoinPassword, "-E", "-C"); !got.Ok() {
		t.Fatal(got)
	}
	if got := must(t, box.Machine, "klist"); !strings.Contains(got, JoinUser+"@CORP.FABRIKAM.TEST") {
		t.Errorf("ticket: got %s", got)
	}
	if got, want := d.DC.FQDN(), "dc1.corp.fabrikam.test"; got != want {
		t.Errorf("name of the DC: got %s, want %s", got, want)
	}
}
