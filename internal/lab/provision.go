// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// A template is the part of a DC's disk that provisioning writes, kept in the
// cache. Its key covers the text of everything that makes it.
//
//go:embed provision.go population.go demo.go samdb.py
var recipe embed.FS

func (l *Lab) templateKey(options DomainOptions) string {
	hash := sha256.New()
	for _, name := range []string{"provision.go", "population.go", "demo.go", "samdb.py"} {
		text, err := recipe.ReadFile(name)
		if err != nil {
			panic(err) // a file that the compiler put in
		}
		hash.Write(text)
	}
	wanted, err := json.Marshal(options)
	if err != nil {
		panic(err) // strings and numbers
	}
	hash.Write(wanted)
	hash.Write([]byte(l.base.Key()))
	return "domain-" + hex.EncodeToString(hash.Sum(nil))[:16]
}

// template returns the directory of a provisioned and filled domain.
func (l *Lab) template(ctx context.Context, options DomainOptions) (string, error) {
	if options.DCs > 1 {
		return l.replicaTemplate(ctx, options)
	}
	if options.Population == (Population{}) {
		return cached(ctx, l.templateKey(options), l.progress, func(dir string) error {
			return l.withScratchDC(ctx, options, "", dir, func(m *Machine, db *samdb) error {
				return l.provision(ctx, options, m, db)
			})
		})
	}
	empty := options
	empty.Population = Population{}
	bare, err := l.template(ctx, empty)
	if err != nil {
		return "", err
	}
	return cached(ctx, l.templateKey(options), l.progress, func(dir string) error {
		return l.withScratchDC(ctx, options, bare, dir, func(_ *Machine, db *samdb) error {
			what := fmt.Sprintf("filling the domain: %s", options.Population)
			return l.progress.step(what, options.Population.expect(), func() error {
				return options.Population.apply(ctx, options, db)
			})
		})
	})
}

// withScratchDC runs work on a machine that is on no network, and copies
// what provisioning wrote to dir.
func (l *Lab) withScratchDC(ctx context.Context, options DomainOptions, lower, dir string, work func(*Machine, *samdb) error) error {
	layers := []string{l.baseDir}
	if lower != "" {
		layers = []string{lower, l.baseDir}
	}
	ip := fmt.Sprint(Network, firstDC)
	m, err := l.startMachine(ctx, machineInfo{Name: "scratch", Kind: "dc", Hostname: "dc1"}, initConfig{
		Lower: layers, Size: "16g",
		Files: map[string]string{
			"/etc/hosts":     "127.0.0.1 localhost\n" + ip + " dc1." + options.DNS + " dc1\n",
			"/etc/krb5.conf": krb5Conf(options),
		},
	})
	if err != nil {
		return err
	}
	defer m.PowerOff(context.WithoutCancel(ctx))
	db := &samdb{machine: m}
	defer db.Close()
	if err := work(m, db); err != nil {
		return err
	}
	db.Close()
	return m.keepDisk(ctx, dir)
}

func krb5Conf(options DomainOptions) string {
	return "[libdefaults]\n\tdefault_realm = " + options.Realm() + "\n\tdns_lookup_realm = false\n\tdns_lookup_kdc = true\n\trdns = false\n"
}

// smbConf is the DC's configuration. Services that repeat at each start what
// provisioning did are left out, and in a domain of one DC those that look for
// others. Where there are others, they are told of a change within a second.
func smbConf(options DomainOptions, host string, others bool) string {
	services, replication := "", ""
	if others {
		services = ", kcc"
		replication = `	kccsrv:periodic_startup_interval = 1
	kccsrv:periodic_interval = 60
	dreplsrv:periodic_startup_interval = 1
	dreplsrv:periodic_interval = 15
	dreplsrv:notify_interval = 1
`
	}
	return `[global]
	netbios name = ` + host + `
	realm = ` + options.Realm() + `
	workgroup = ` + options.NetBIOS + `
	server role = active directory domain controller
	server services = s3fs, rpc, ldap, cldap, kdc, drepl, winbindd, dns` + services + `
	interfaces = lo eth0
	bind interfaces only = yes
	ldap server require strong auth = yes
	kdc supported enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96
	kdc default domain supported enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96
	ntlm auth = ntlmv2-only
	dns forwarder =
	allow dns updates = secure only
	vfs objects = dfs_samba4 acl_xattr
	prefork children = 2
` + replication + `
[sysvol]
	path = /var/lib/samba/sysvol
	read only = no

[netlogon]
	path = /var/lib/samba/sysvol/` + options.DNS + `/scripts
	read only = no
`
}

// identity derives the ids of a domain from its options, so that a variant is
// the same domain on every machine.
func (o DomainOptions) identity(what string) []byte {
	sum := sha256.Sum256([]byte(what + "\x00" + o.DNS + "\x00" + o.Variant))
	return sum[:]
}

func (o DomainOptions) guid(what string) string {
	return uuid.NewSHA1(uuid.NameSpaceDNS, o.identity(what)).String()
}

// SID is the domain's SID.
func (o DomainOptions) SID() string {
	seed := o.identity("sid")
	part := func(i int) uint32 { return binary.LittleEndian.Uint32(seed[4*i:])&0x7fffffff + 1<<20 }
	return fmt.Sprintf("S-1-5-21-%d-%d-%d", part(0), part(1), part(2))
}

// provision makes a domain with nobody in it but the join user.
func (l *Lab) provision(ctx context.Context, options DomainOptions, m *Machine, db *samdb) error {
	err := l.progress.step("provisioning the domain "+options.DNS, 15*time.Second, func() error {
		if _, err := m.Output(ctx, "rm", "-f", "/etc/samba/smb.conf"); err != nil {
			return err
		}
		if _, err := m.Output(ctx, "samba-tool", "domain", "provision",
			"--realm="+options.Realm(), "--domain="+options.NetBIOS, "--server-role=dc", "--dns-backend=SAMBA_INTERNAL",
			"--host-name=dc1", "--host-ip="+fmt.Sprint(Network, firstDC), "--adminpass="+AdminPassword,
			"--domain-sid="+options.SID(), "--domain-guid="+options.guid("domain"),
			"--ntds-guid="+options.guid("ntds"), "--invocationid="+options.guid("invocation"),
			"--option=vfs objects=dfs_samba4 acl_xattr"); err != nil {
			return err
		}
		return m.WriteFile(ctx, "/etc/samba/smb.conf", []byte(smbConf(options, "DC1", false)), 0o644)
	})
	if err != nil {
		return err
	}
	return l.progress.step("shaping it like Entra Domain Services", 6*time.Second, func() error {
		for _, change := range shape(options) {
			if _, err := db.do(ctx, change); err != nil {
				return err
			}
		}
		for _, command := range [][]string{
			// Any user may create a computer here, and nowhere else.
			{"samba-tool", "dsacl", "set", "--objectdn=" + options.ComputersDN(), "--sddl=(OA;;CC;bf967a86-0de6-11d0-a285-00aa003049e2;;AU)"},
			// The SPNs and records that the left-out services would register.
			{"samba_spnupdate"},
			{"sh", "-euc", makeCertificates, "certificates", options.DNS},
		} {
			if _, err := m.Output(ctx, command...); err != nil {
				return err
			}
		}
		return nil
	})
}

// makeCertificates makes an authority and a wildcard certificate, as admins of
// Entra Domain Services do for secure LDAP.
const makeCertificates = `cd /var/lib/samba/private
mkdir -p tls; chmod 700 tls; cd tls
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Lab CA" -keyout ca.key -out ca.pem \
	-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
openssl req -new -newkey rsa:2048 -nodes -subj "/CN=*.$1" -keyout key.pem -out cert.csr 2>/dev/null
printf 'subjectAltName=DNS:*.%s,DNS:%s\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature,keyEncipherment\n' "$1" "$1" >cert.ext
openssl x509 -req -days 3650 -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile cert.ext -out cert.pem 2>/dev/null
chmod 600 key.pem ca.key
`

// shape lists the changes that make a Samba domain look like the managed one.
func shape(options DomainOptions) []Change {
	base := options.BaseDN()
	schema := "CN=Schema,CN=Configuration," + base
	var changes []Change
	// The attributes that tie an object to Entra ID. Their real OIDs are not
	// published; these are of the range for examples.
	names := []string{"aadObjectId", "AzureADObjectId", "AzureADMailNickname"}
	for i, name := range names {
		changes = append(changes, Change{Op: "add", DN: "CN=ms-DS-" + name + "," + schema, Set: map[string][][]byte{
			"objectClass": Text("top", "attributeSchema"), "cn": Text("ms-DS-" + name),
			"lDAPDisplayName": Text("msDS-" + name), "attributeID": Text(fmt.Sprintf("1.3.6.1.4.1.99999.1.1.%d", i+1)),
			"attributeSyntax": Text("2.5.5.12"), "oMSyntax": Text("64"), "isSingleValued": Text("TRUE"), "searchFlags": Text("1"),
		}})
	}
	changes = append(changes, Change{Op: "reopen"})
	for _, class := range []string{"User", "Group"} {
		changes = append(changes, Change{Op: "modify", DN: "CN=" + class + "," + schema, Add: map[string][][]byte{
			"mayContain": Text("msDS-"+names[0], "msDS-"+names[1], "msDS-"+names[2]),
		}})
	}
	changes = append(changes, Change{Op: "reopen"})
	for _, dn := range []string{options.UsersDN(), options.ComputersDN()} {
		changes = append(changes, Change{Op: "add", DN: dn, Set: map[string][][]byte{"objectClass": Text("organizationalUnit")}})
	}
	// Who names no container when joining gets the managed one (MS-ADTS
	// section 6.1.1.4, GUID_COMPUTERS_CONTAINER_W).
	const computers = "B:32:AA312825768811D1ADED00C04FD8D5CD:"
	changes = append(changes,
		Change{
			Op: "modify", DN: base, Controls: []string{"relax:0"},
			Del: map[string][][]byte{"wellKnownObjects": Text(computers + "CN=Computers," + base)},
			Add: map[string][][]byte{"wellKnownObjects": Text(computers + options.ComputersDN())},
		},
		Change{Op: "modify", DN: "CN=Partitions,CN=Configuration," + base, Add: map[string][][]byte{"uPNSuffixes": Text(options.UPNSuffix)}},
		// 5 bad passwords in 2 minutes lock for 30; passwords live 90 days.
		// Times are negative counts of 100 ns (MS-ADTS section 2.2.14).
		Change{Op: "modify", DN: base, Set: map[string][][]byte{
			"lockoutThreshold": Text("5"), "lockOutObservationWindow": Text("-1200000000"), "lockoutDuration": Text("-18000000000"),
			"maxPwdAge": Text("-77760000000000"), "minPwdAge": Text("0"), "minPwdLength": Text("7"),
			"ms-DS-MachineAccountQuota": Text("0"),
		}},
		addGroup(options, Group{Name: "AAD DC Administrators", OID: options.oid("group", "aad-dc-administrators")}),
		addUser(options, User{Name: JoinUser, Display: "Join User", Password: JoinPassword, OID: options.oid("user", JoinUser)}),
	)
	return changes
}
