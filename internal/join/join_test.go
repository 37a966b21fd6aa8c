// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

func mustJoinHere(t *testing.T, j *Joiner, req Request) (*Membership, steps) {
	t.Helper()
	var s steps
	m, err := j.Join(t.Context(), req, s.tell)
	if err != nil {
		t.Fatalf("Join: %v (remedy: %s)", err, fault.Remedy(err))
	}
	return m, s
}

func TestJoinMakesAMember(t *testing.T) {
	w := newWorld()
	j, _ := w.joiner(t)
	keys := &recordingKeys{}
	j.cfg.HostKeys = keys
	req := request()
	req.TenantID, req.People, req.DNSServers = "00112233-4455-6677-8899-aabbccddeeff", PeopleHybrid, []string{"10.0.0.4", "10.0.0.5:5353"}
	m, s := mustJoinHere(t, j, req)
	if m.ComputerAccount != "NAS$" || m.FQDN != "nas."+testDomain || m.Domain != testDomain || m.Realm != testRealm || m.NetBIOS != "AADDSCONTOSO" ||
		m.DomainSID != domainSID.String() || m.ComputerDN != "CN=NAS,"+computersOU || m.KVNO != 1 || m.Rejoined || m.DC != "dc1."+testDomain {
		t.Errorf("membership %+v", m)
	}
	record, err := j.cfg.Memory.Machine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if record.Domain.SID != domainSID || record.ComputerSID != domainSID.WithRID(1101) || record.KVNO != 1 || record.Tenant.String() != req.TenantID ||
		record.People != store.PeopleHybrid || !slices.Equal(record.DNSServers, []string{"10.0.0.4", "10.0.0.5:5353"}) || record.Joined.IsZero() {
		t.Errorf("record %+v", record)
	}
	if got := string(record.Password.Reveal()); got != w.account("NAS$").Password || len(got) < 120 {
		t.Errorf("the remembered password (%d characters) is not the account's (%d)", len(got), len(w.account("NAS$").Password))
	}
	if got := w.names["nas."+testDomain]; !slices.Equal(got, w.local) {
		t.Errorf("registered %v, want %v", got, w.local)
	}
	if len(keys.install) != 1 || keys.install[0].Account != "NAS$" || len(keys.keytab) == 0 {
		t.Errorf("root's keys: %+v", keys.install)
	}
	kt, err := kerberos.ReadKeytab(j.cfg.KeytabPath)
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * (1 + len(spns("nas", "nas."+testDomain))); len(kt.Entries) != want {
		t.Errorf("%d keys in the keytab, want %d", len(kt.Entries), want)
	}
	if st, err := os.Stat(j.cfg.KeytabPath); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("keytab: %v, %v", st.Mode(), err)
	}
	percent := 0
	for _, one := range s {
		if one.State == Failed || one.State == Warning || one.Percent < percent {
			t.Errorf("step %+v after %d%%", one, percent)
		}
		percent = one.Percent
	}
	if percent != 100 {
		t.Errorf("the last step is at %d%%", percent)
	}
}

// TestThePasswordIsNowhere joins, leaves and fails in many ways, and looks for
// the password of the user, and the machine's, in everything that comes out.
func TestThePasswordIsNowhere(t *testing.T) {
	var out strings.Builder
	secrets := []string{testPassword}
	for name, harm := range map[string]func(*world, *Joiner, *Request){
		"nothing":   func(*world, *Joiner, *Request) {},
		"wrong":     func(w *world, _ *Joiner, _ *Request) { w.kdcs.Add(krbAlice("other")) },
		"denied":    func(w *world, _ *Joiner, _ *Request) { w.refuse = refuseAll("add", ldapDenied) },
		"malformed": func(_ *world, _ *Joiner, r *Request) { r.OU = testPassword },
		"memory":    func(_ *world, j *Joiner, _ *Request) { j.cfg.Memory = brokenMemory{j.cfg.Memory} },
		"keytab":    func(_ *world, j *Joiner, _ *Request) { j.cfg.KeytabPath = "/nowhere/x" },
		"names":     func(w *world, _ *Joiner, _ *Request) { w.refuse = refuseAll("get", ldapDenied) },
	} {
		w := newWorld()
		j, log := w.joiner(t)
		req := request()
		harm(w, j, &req)
		if name == "malformed" {
			req.OU = "no DN"
		}
		var s steps
		m, err := j.Join(t.Context(), req, s.tell)
		fmt.Fprintf(&out, "%s: %v %+v %#v %+v %v %+v %s %s\n", name, m, s, err, err, fault.Remedy(err), req, log, w.asked)
		for e := err; e != nil; e = errors.Unwrap(e) {
			fmt.Fprintf(&out, "%#v\n", e)
		}
		if got := req.Password.Reveal(); !slices.Equal(got, make([]byte, len(got))) {
			t.Errorf("%s: the password is not wiped", name)
		}
		if a := w.accounts["NAS$"]; a != nil {
			secrets = append(secrets, a.Password)
		}
		leave := LeaveRequest{User: "alice", Password: secret.FromString(testPassword)}
		err = j.Leave(t.Context(), leave, s.tell)
		fmt.Fprintf(&out, "%s, leave: %+v %#v %v %+v %s\n", name, s, err, err, leave, log)
		if got := leave.Password.Reveal(); !slices.Equal(got, make([]byte, len(got))) {
			t.Errorf("%s: the password of the leave is not wiped", name)
		}
	}
	if len(secrets) < 3 || !strings.Contains(out.String(), "Sign in as alice") {
		t.Fatalf("nothing was tried: %d secrets in %d bytes", len(secrets), out.Len())
	}
	for _, s := range secrets {
		for _, form := range []string{s, fmt.Sprintf("%x", s), fmt.Sprint([]byte(s)), fmt.Sprintf("%q", s)} {
			if form != `""` && form != "" && form != "[]" && strings.Contains(out.String(), form) {
				t.Errorf("a password came out: ...%.200s", out.String()[strings.Index(out.String(), form)-min(100, strings.Index(out.String(), form)):])
			}
		}
	}
}

func TestRareRefusals(t *testing.T) {
	readOnly := func(w *world) { w.dcs[0].Flags = directory.DCIsKDC }
	for name, tc := range map[string]struct {
		harm   func(*world)
		edit   func(*Request)
		kind   fault.Kind
		step   string
		say    string
		remedy string
	}{
		"no AES key yet":             {func(w *world) { w.kdcs.Add(krbNoKey()) }, func(r *Request) { r.User = "bob" }, fault.BadCredential, StepSignIn, "no password that the domain knows yet", "change the password of the user once"},
		"logon hours":                {func(w *world) { w.kdcs.Add(krbHours()) }, func(r *Request) { r.User = "carol" }, fault.Denied, StepSignIn, "does not let carol sign in", "logon hours"},
		"read-only DC":               {readOnly, nil, fault.Unreachable, StepDC, "is read-only", "--dc"},
		"no container":               {func(w *world) { delete(w.objects, computersOU) }, nil, fault.NotFound, StepContainer, "look at " + testBase, ""},
		"unwilling":                  {func(w *world) { w.refuse = refuseAll("add", ldapUnwilling) }, nil, fault.Denied, StepAccount, "does not let alice create", "quota"},
		"name taken by another kind": {func(w *world) { w.objects["CN=NAS,"+computersOU] = attrs("objectClass", "container") }, nil, fault.Conflict, StepAccount, "there is another object CN=NAS,", "--hostname"},
		"a DNS name in use": {func(w *world) {
			w.objects["CN=OLD,"+computersOU] = attrs("objectClass", "computer", "sAMAccountName", "OLD$", "dNSHostName", "nas."+testDomain)
		}, nil, fault.Conflict, StepAccount, "the DNS name nas." + testDomain + " belongs to CN=OLD,", "--hostname"},
		"the directory breaks off": {func(w *world) { w.refuse = refuseAll("domain", ldapNotLeaf) }, nil, fault.Conflict, StepDirectory, "read what domain this is", ""},
		"names refused":            {func(w *world) { w.refuse = refuseAttr("servicePrincipalName", ldapConstraint) }, nil, fault.Conflict, StepNames, "is refused", "--hostname"},
		"a DC that left":           {func(w *world) { w.dcs[0].Host = "dc9." + testDomain }, nil, fault.Unreachable, StepDirectory, "knows no LDAP service on dc9." + testDomain, "--dc"},
		"no DNS at all":            {func(w *world) { w.srv[""] = fault.New(fault.Unreachable, "timeout") }, nil, fault.Unreachable, StepDNS, "own name servers do not answer", "/etc/resolv.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			j, _ := w.joiner(t)
			if tc.harm != nil {
				tc.harm(w)
			}
			req := request()
			if tc.edit != nil {
				tc.edit(&req)
			}
			var s steps
			_, err := j.Join(t.Context(), req, s.tell)
			if !fault.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), tc.say) || !strings.Contains(fault.Remedy(err), tc.remedy) {
				t.Errorf("Join = %v %q -> %q, want %v %q -> %q", fault.KindOf(err), err, fault.Remedy(err), tc.kind, tc.say, tc.remedy)
			}
			if got := s.last(tc.step); got.State != Failed || got.Remedy == "" || !strings.HasSuffix(fmt.Sprint(err), got.Detail) || got.Remedy != fault.Remedy(err) {
				t.Errorf("step %s: %+v", tc.step, got)
			}
			if m, err := j.cfg.Memory.Machine(t.Context()); !fault.Is(err, fault.NotFound) {
				t.Errorf("a refused join is remembered: %+v, %v", m, err)
			}
		})
	}
}

func TestWhatDoesNotStopAJoin(t *testing.T) {
	twoDCs := func(w *world) {
		w.kdcs.Add(krbtest.Account{Name: []string{"DC2$"}, Password: "dc2", DC: true, Aliases: [][]string{{"ldap", "dc2." + testDomain}, {"DNS", "dc2." + testDomain}}})
		w.dcs = append(w.dcs, directory.DC{Host: "dc2." + testDomain, Addr: dc2Addr, NetBIOS: "AADDSCONTOSO", DNSDomain: testDomain, Flags: directory.DCIsWritable})
	}
	for name, tc := range map[string]struct {
		harm   func(*world, *Joiner)
		edit   func(*Request)
		step   string
		say    string
		remedy string
	}{
		"one of two name servers": {func(w *world, _ *Joiner) { w.srv["10.0.0.5"] = fault.New(fault.Unreachable, "timeout") }, func(r *Request) { r.DNSServers = []string{"10.0.0.4", "10.0.0.5"} },
			StepDNS, "10.0.0.4 answers, 10.0.0.5 does not", "port 53"},
		"one of two DCs on a port": {func(w *world, _ *Joiner) { twoDCs(w); w.closed["10.0.0.4:88"] = refusedPort }, nil,
			"port-88", "port 88 on dc1." + testDomain + " (10.0.0.4) is closed (refused); open on dc2." + testDomain, "allow TCP 88 from this machine to 10.0.0.4"},
		"a port that is not needed": {func(w *world, _ *Joiner) { w.closed["10.0.0.4:445"] = context.DeadlineExceeded }, nil, "port-445", "does not answer (blocked on the way): group policy", "allow TCP 445"},
		"a clock that drifts":       {func(w *world, _ *Joiner) { w.skew = 100e9 }, nil, StepClock, " seconds ahead of", "NTP"},
		"no DNS update":             {func(w *world, _ *Joiner) { w.zoneErr = fault.New(fault.Denied, "REFUSED") }, nil, StepRegister, "REFUSED", "nas." + testDomain + " = 192.168.1.7"},
		"root's keys": {func(_ *world, j *Joiner) {
			j.cfg.HostKeys = &recordingKeys{err: fault.New(fault.Internal, "no monitor")}
		}, nil, StepHostKeys, "no monitor", "sshd"},
		"encryption types": {func(w *world, _ *Joiner) { w.refuse = refuseAttr("msDS-SupportedEncryptionTypes", ldapDenied) }, nil, StepNames, "the encryption types", "msDS-SupportedEncryptionTypes"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			j, _ := w.joiner(t)
			tc.harm(w, j)
			req := request()
			if tc.edit != nil {
				tc.edit(&req)
			}
			m, s := mustJoinHere(t, j, req)
			if got := s.last(tc.step); got.State != Warning || !strings.Contains(got.Detail, tc.say) || !strings.Contains(got.Remedy, tc.remedy) {
				t.Errorf("step %+v, want a warning that says %q -> %q", got, tc.say, tc.remedy)
			}
			if name == "one of two DCs on a port" && m.DC != "dc2."+testDomain {
				t.Errorf("joined at %s, whose port 88 is closed", m.DC)
			}
		})
	}
}

// TestLeastIsEnough is a domain that lets a creator set only what MS-ADTS names.
func TestLeastIsEnough(t *testing.T) {
	w := newWorld()
	j, _ := w.joiner(t)
	w.refuse = func(who, op, dn string, names []string) uint16 {
		if op == "add" && (slices.Contains(names, "operatingSystem") || slices.Contains(names, "msDS-SupportedEncryptionTypes")) {
			return ldapDenied
		}
		if op == "modify" && who == "alice" {
			return ldapDenied
		}
		return 0
	}
	_, s := mustJoinHere(t, j, request())
	o := w.objects["CN=NAS,"+computersOU]
	for _, spn := range spns("nas", "nas."+testDomain) {
		if !slices.ContainsFunc(o["servicePrincipalName"], func(v []byte) bool { return strings.EqualFold(string(v), spn) }) {
			t.Errorf("no %s in %q", spn, o["servicePrincipalName"])
		}
	}
	if got := entry("", o).First("msDS-SupportedEncryptionTypes"); got != "24" || s.last(StepNames).State != Done {
		t.Errorf("encryption types %q, step %+v", got, s.last(StepNames))
	}
}

func TestPlaceForTheAccount(t *testing.T) {
	w := newWorld()
	j, _ := w.joiner(t)
	delete(w.objects, computersOU)
	w.objects[testBase] = attrs("wellKnownObjects", "B:32:A361B2FFFFD211D1AA4B00C04FD7D83A:OU=Domain Controllers,"+testBase,
		"wellKnownObjects", "B:32:AA312825768811D1ADED00C04FD8D5CD:CN=Computers,"+testBase)
	m, _ := mustJoinHere(t, j, request())
	if want := "CN=NAS,CN=Computers," + testBase; m.ComputerDN != want {
		t.Errorf("the account is %s, want %s", m.ComputerDN, want)
	}
	w = newWorld()
	j, _ = w.joiner(t)
	req := request()
	req.OU = "OU=NAS," + testBase
	if m, _ := mustJoinHere(t, j, req); m.ComputerDN != "CN=NAS,"+req.OU {
		t.Errorf("the account is %s, want it in %s", m.ComputerDN, req.OU)
	}
}

func TestFailedRecordIsRepairedByTheSameJoin(t *testing.T) {
	w := newWorld()
	j, _ := w.joiner(t)
	good := j.cfg.Memory
	j.cfg.Memory = brokenMemory{good}
	var s steps
	if _, err := j.Join(t.Context(), request(), s.tell); !fault.Is(err, fault.Internal) || s.last(StepRemember).State != Failed {
		t.Fatalf("Join with a full disk = %v", err)
	}
	j.cfg.Memory = good
	if m, _ := mustJoinHere(t, j, request()); !m.Rejoined || m.KVNO != 2 {
		t.Errorf("membership %+v", m)
	}
}

func TestOneTaskAtATime(t *testing.T) {
	w := newWorld()
	j, _ := w.joiner(t)
	if err := j.lock(); err != nil {
		t.Fatal(err)
	}
	var s steps
	req := request()
	_, err := j.Join(t.Context(), req, s.tell)
	for what, err := range map[string]error{"join": err, "check": j.Check(t.Context(), request(), s.tell), "leave": j.Leave(t.Context(), LeaveRequest{}, s.tell)} {
		if !fault.Is(err, fault.Conflict) || len(s) != 0 {
			t.Errorf("a second task, %s: %v, %d steps", what, err, len(s))
		}
	}
	if got := req.Password.Reveal(); !slices.Equal(got, make([]byte, len(got))) {
		t.Error("the password is not wiped")
	}
	j.busy.Unlock()
}
