// SPDX-License-Identifier: Apache-2.0

package config

import (
	"sync"
	"time"
)

// Effect says when a changed key counts.
type Effect uint8

// When a change counts.
const (
	AtOnce  Effect = iota // with the reload
	NewRows               // for users and groups first seen after the reload; a number, once given, stays
	NextRun               // when the daemon is started the next time
)

// String says it for people.
func (e Effect) String() string {
	switch e {
	case NewRows:
		return "counts for users and groups that are new after the change"
	case NextRun:
		return "counts after the daemon is started again"
	}
	return "counts at once"
}

// Key is one thing that can be set: its name, its words and its limits.
type Key struct {
	Name    string // dotted: "directory.sync_interval"
	Doc     string // sentences for the example file and the manual page
	Example string // a TOML value for the example file, where the default is empty
	Effect  Effect

	Words    []string // the allowed words of a string; nil: any
	Min, Max int64    // limits of a number, both included; of a duration in nanoseconds

	check func(string) error // of a string, or of each string of a list
	field func(*Config) any  // a pointer to where the value lives
	items []itemKey          // of a list of tables: the keys of one table
	zero  bool               // a number may be 0 as well
}

// itemKey is one key of a table in a list of tables.
type itemKey struct {
	Name     string
	Doc      string
	Required bool
	check    func(string) error
	field    func(table any) any // a pointer to a string, or to a list of them, in a *Override or *App
}

// item makes the field of an itemKey.
func item[T any](field func(*T) any) func(any) any {
	return func(table any) any { return field(table.(*T)) }
}

// Section is a table of the file with its words.
type Section struct {
	Name string
	Doc  string
}

// Sections returns the tables of the file in the order of the example.
func Sections() []Section {
	return []Section{
		{"directory", "How the domain is reached and how often it is read. What `latchkey join` found or was told holds where a key is empty."},
		{"idmap", "How a SID becomes a number. Decide before the join: a number, once given to a row, never changes."},
		{"names", "Which bare names domain users and groups may not have on this machine."},
		{"nss", "How users and groups look to the programs of this machine, and which of them are shown."},
		{"nss.users", "Which users are published. Lists that are empty do not restrict; of those that are not, each must agree. `hide` has the last word."},
		{"nss.groups", "Which groups are published, by the same rules. A hidden group keeps its number in the id lists of its members."},
		{"login", "How people sign in. Who may use which service is not here: see `latchkey access`."},
		{"samba", "How smbd asks this daemon. `latchkey samba enable` and `latchkey samba disable` set what is needed."},
		{"ntlm", "What is taken of NTLM besides NTLMv2. NTLMv1 never is."},
		{"web", "The sign-in pages: where browsers reach them, and by which certificate."},
		{"sso", "Sign-in with Microsoft Entra ID by a browser. `latchkey sso set` fills it in, and checks it before it counts."},
		{"api", "Who may call what on /run/latchkey/api.sock."},
		{"log", "What the daemon writes to the journal."},
		{"limits", "What one caller may take, so that it cannot starve the others."},
		{"locked", "What only this file may set, whatever `latchkey config set` or the console is asked."},
	}
}

// Keys returns the table of all keys in the order of the example. Callers do
// not change it.
func Keys() []Key {
	once.Do(func() { table = makeTable() })
	return table
}

var (
	once  sync.Once
	table []Key
)

func makeTable() []Key {
	return []Key{
		{Name: "version", Doc: "The version of this file's form. Required.",
			Min: Version, Max: Version, Effect: NextRun,
			field: func(c *Config) any { return &c.Version }},

		{Name: "directory.dns", Doc: "DNS servers of the domain, by address, asked instead of the machine's own. A managed domain shows them as \"IP address on virtual network\".",
			Example: `["10.0.0.4", "10.0.0.5"]`,
			field:   func(c *Config) any { return &c.Directory.DNS }},
		{Name: "directory.domain_controllers", Doc: "Domain controllers by host name or address, where DNS should not be asked for them.",
			Example: `["10.0.0.4", "10.0.0.5"]`, check: checkHost,
			field: func(c *Config) any { return &c.Directory.DomainControllers }},
		{Name: "directory.people", Doc: "Where the people's passwords come from: made in Entra ID, or synchronised from an on-premises AD. It decides what a failed sign-in is explained by.",
			Words: []string{"cloud-only", "hybrid"}, Example: `"cloud-only"`,
			field: func(c *Config) any { return &c.Directory.People }},
		{Name: "directory.tenant", Doc: "The id of the Entra tenant.", Example: `"8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b"`,
			field: func(c *Config) any { return &c.Directory.Tenant }},
		{Name: "directory.sync_interval", Doc: "How often changes are read.",
			Min: int64(time.Second), Max: int64(time.Hour),
			field: func(c *Config) any { return &c.Directory.SyncInterval }},
		{Name: "directory.sweep_interval", Doc: "How often all ids are read, to find out what was deleted, hints of the domain controller aside.",
			Min: int64(10 * time.Second), Max: int64(24 * time.Hour),
			field: func(c *Config) any { return &c.Directory.SweepInterval }},
		{Name: "directory.full_interval", Doc: "How often everything is read again, whatever changed.",
			Min: int64(10 * time.Minute), Max: int64(30 * 24 * time.Hour),
			field: func(c *Config) any { return &c.Directory.FullInterval }},
		{Name: "directory.max_deletions", Doc: "The share of all rows, in per cent, that may disappear at once, or one by one between two sweeps. Where more are missing, they are kept until `latchkey sync --accept-deletions`.",
			Min: 1, Max: 100,
			field: func(c *Config) any { return &c.Directory.MaxDeletions }},
		{Name: "directory.key_interval", Doc: "How old the machine's key may become before it is changed. The change comes up to a tenth of it earlier.",
			Min: int64(24 * time.Hour), Max: int64(30 * 24 * time.Hour),
			field: func(c *Config) any { return &c.Directory.KeyInterval }},
		{Name: "directory.ssh_keys", Doc: "The attribute of users that holds their public SSH keys, for `latchkey ssh-keys`. Empty: none is read. A managed domain's schema has no sshPublicKey; altSecurityIdentities takes the same lines, and with the Enterprise SKU an extensionAttribute can come from Entra ID.",
			Example: `"altSecurityIdentities"`, check: checkAttribute,
			field: func(c *Config) any { return &c.Directory.SSHKeys }},

		{Name: "idmap.method", Doc: "rid: base + RID, the numbers TrueNAS and winbind's idmap_rid give. sssd: the slices of SSSD. autorid: those of winbind's autorid, first range.",
			Words: []string{"rid", "sssd", "autorid"}, Effect: NewRows,
			field: func(c *Config) any { return &c.IDMap.Method }},
		{Name: "idmap.base", Doc: "The first number of the range. 0 is the method's own: 100000001 for rid, 200000 for sssd, 100000 for autorid. Numbers that were given before a change stay, and are not published while they lie outside of the range.",
			Min: 1000, Max: 1<<32 - 2, zero: true, Effect: NewRows,
			field: func(c *Config) any { return &c.IDMap.Base }},
		{Name: "idmap.size", Doc: "How many numbers the range has. 0 is the method's own: 100000000 for rid and autorid, 2000000000 for sssd. 61184 to 65519, 65534 and 65535 are never given.",
			Min: 10000, Max: 1<<32 - 1001, zero: true, Effect: NewRows,
			field: func(c *Config) any { return &c.IDMap.Size }},
		{Name: "idmap.slice", Doc: "How many numbers a slice of the range has. 0 is the method's own: 200000 for sssd, 100000 for autorid, a hundredth of the range for rid.",
			Min: 1000, Max: 1<<32 - 1001, zero: true, Effect: NewRows,
			field: func(c *Config) any { return &c.IDMap.Slice }},
		{Name: "idmap.first", Doc: "autorid only: the slice that winbind gave the domain. It counts from 0, and its own well-known SIDs may have taken the first one or two.",
			Min: 0, Max: 1 << 20, Effect: NewRows,
			field: func(c *Config) any { return &c.IDMap.First }},

		{Name: "names.reserved", Doc: "Names that no domain user or group may bear bare, on top of the shipped list (root, admin, wheel, docker and their like) and of the machine's own accounts. Such a row is published as DOMAIN\\name.",
			Example: `["backup-operator", "nasadmin"]`, check: checkName,
			field: func(c *Config) any { return &c.Names.Reserved }},

		{Name: "nss.home", Doc: templateDoc("Home directory."), check: checkTemplatePath,
			field: func(c *Config) any { return &c.NSS.Home }},
		{Name: "nss.shell", Doc: "Login shell. Who may log in is not decided by it.", check: checkTemplatePath,
			field: func(c *Config) any { return &c.NSS.Shell }},
		{Name: "nss.gecos", Doc: templateDoc("The full name field."), check: checkTemplate,
			field: func(c *Config) any { return &c.NSS.Gecos }},
		{Name: "nss.enumerate", Doc: "Whether `getent passwd` and `getent group` list domain rows. Lookups by name and number work either way.",
			field: func(c *Config) any { return &c.NSS.Enumerate }},
		{Name: "nss.override", Doc: "Another look for the members of a group. Of several that fit a person, the first one that says something wins.",
			Example: `[{ group = "Designers", shell = "/bin/zsh", home = "/tank/design/%u" }]`,
			field:   func(c *Config) any { return &c.NSS.Overrides },
			items: []itemKey{
				{Name: "group", Doc: "The group, by any form of its name or by SID.", Required: true, check: checkName,
					field: item(func(o *Override) any { return &o.Group })},
				{Name: "home", Doc: "As nss.home.", check: checkTemplatePath, field: item(func(o *Override) any { return &o.Home })},
				{Name: "shell", Doc: "As nss.shell.", check: checkTemplatePath, field: item(func(o *Override) any { return &o.Shell })},
				{Name: "gecos", Doc: "As nss.gecos.", check: checkTemplate, field: item(func(o *Override) any { return &o.Gecos })},
			}},

		{Name: "nss.users.in_groups", Doc: "Only members of one of these groups, nested groups included.", Example: `["NAS users"]`, check: checkName,
			field: func(c *Config) any { return &c.NSS.Users.InGroups }},
		{Name: "nss.users.under", Doc: "Only objects under one of these containers.", Example: `["OU=AADDC Users"]`, check: checkText,
			field: func(c *Config) any { return &c.NSS.Users.Under }},
		{Name: "nss.users.match", Doc: "Only names that fit one of these patterns (*, ? and [a-z], any case).", Example: `["*"]`, check: checkPattern,
			field: func(c *Config) any { return &c.NSS.Users.Match }},
		{Name: "nss.users.hide", Doc: "No names that fit one of these patterns.", Example: `["svc-*"]`, check: checkPattern,
			field: func(c *Config) any { return &c.NSS.Users.Hide }},
		{Name: "nss.groups.in_groups", Doc: "Only these groups and the groups inside them.", Example: `["NAS groups"]`, check: checkName,
			field: func(c *Config) any { return &c.NSS.Groups.InGroups }},
		{Name: "nss.groups.under", Doc: "Only objects under one of these containers.", Example: `["OU=AADDC Users"]`, check: checkText,
			field: func(c *Config) any { return &c.NSS.Groups.Under }},
		{Name: "nss.groups.match", Doc: "Only names that fit one of these patterns.", Example: `["nas-*"]`, check: checkPattern,
			field: func(c *Config) any { return &c.NSS.Groups.Match }},
		{Name: "nss.groups.hide", Doc: "No names that fit one of these patterns.", Example: `["dl-*"]`, check: checkPattern,
			field: func(c *Config) any { return &c.NSS.Groups.Hide }},

		{Name: "login.alternate_id", Doc: "Whether people may sign in by their mail address as well (Entra Connect's alternate login ID). An address that two people have lets neither of them in by it.",
			field: func(c *Config) any { return &c.Login.AlternateID }},
		{Name: "login.offline", Doc: "Whether people who have signed in before may do so while no domain controller answers. off deletes what is kept of their passwords (an Argon2id verifier).",
			Words: []string{"on", "off"},
			field: func(c *Config) any { return &c.Login.Offline }},
		{Name: "login.offline_age", Doc: "How long after the last sign-in with the domain that is possible.",
			Min: int64(time.Hour), Max: int64(90 * 24 * time.Hour),
			field: func(c *Config) any { return &c.Login.OfflineAge }},
		{Name: "login.password_url", Doc: "Where people of Entra ID change their password: told to them when it expires, and by passwd.",
			check: checkText,
			field: func(c *Config) any { return &c.Login.PasswordURL }},

		{Name: "samba.pipes", Doc: "Whether the daemon opens winbind's two pipes, which smbd asks. `latchkey samba enable` sets it, with all that belongs to it.",
			field: func(c *Config) any { return &c.Samba.Pipes }},
		{Name: "samba.pipe", Doc: "The public pipe: where the smbd of this machine was built to look for it.", check: checkSocketPath, Effect: NextRun,
			field: func(c *Config) any { return &c.Samba.Pipe }},
		{Name: "samba.privileged_pipe", Doc: "The privileged pipe, in a directory that only root and the group winbindd_priv may enter.", check: checkSocketPath, Effect: NextRun,
			field: func(c *Config) any { return &c.Samba.PrivilegedPipe }},
		{Name: "samba.interface", Doc: "The version of the protocol on the pipes: 31 for Samba 4.10 to 4.16, 32 for 4.17 to 4.21, 33 from 4.22 on. 0: as `smbd -V` says.",
			Min: 31, Max: 33, zero: true, Effect: NextRun,
			field: func(c *Config) any { return &c.Samba.Interface }},

		{Name: "ntlm.mschapv2", Doc: "Whether answers of MS-CHAPv2 may be checked, which a RADIUS server for 802.1X or a VPN asks for (ntlm_auth --allow-mschapv2). Whoever listens to one can find the password's hash, so keep it inside of a TLS tunnel (PEAP).",
			field: func(c *Config) any { return &c.NTLM.MSCHAPv2 }},

		{Name: "web.listen", Doc: "Where browsers reach the sign-in pages, always by https: [address]:port. Empty switches them off.",
			check: checkListen, field: func(c *Config) any { return &c.Web.Listen }},
		{Name: "web.certificate", Doc: "A PEM file with the certificate and those above it, which the user latchkey can read. Empty: a self-signed one is made and renewed.",
			Example: `"/etc/ssl/nas.pem"`, check: checkPath, field: func(c *Config) any { return &c.Web.Certificate }},
		{Name: "web.key", Doc: "A PEM file with the certificate's key, without a password, which the user latchkey can read.",
			Example: `"/etc/latchkey/nas.key"`, check: checkPath, field: func(c *Config) any { return &c.Web.Key }},
		{Name: "web.hostnames", Doc: "The names by which browsers reach this machine; the first one is shown. Empty: its name in the domain.",
			Example: `["nas.contoso.com"]`, check: checkHost, field: func(c *Config) any { return &c.Web.Hostnames }},
		{Name: "web.negotiate", Doc: "Whether a Kerberos ticket signs in: at /auth/negotiate, and by the button that leads there.",
			field: func(c *Config) any { return &c.Web.Negotiate }},
		{Name: "web.negotiate_from", Doc: "Networks whose browsers are asked for a Kerberos ticket before the sign-in page, so that people on domain computers need not even click; in all others a ticket is then good for nothing. Name only those whose browsers were told to trust this machine (`latchkey sso browser-policy`): another browser on Windows may show a password dialog once. Empty: nobody is asked who did not click.",
			Example: `["10.0.0.0/8", "fd00::/8"]`, check: checkNetwork, field: func(c *Config) any { return &c.Web.NegotiateFrom }},
		{Name: "web.negotiate_groups", Doc: "Only to members of one of these groups, by name or SID, is a ticket good for the web. Empty: to everybody.",
			Example: `["Office"]`, check: checkName, field: func(c *Config) any { return &c.Web.NegotiateGroups }},

		{Name: "sso.tenant", Doc: "The id of the tenant (\"Directory (tenant) ID\").", Example: `"8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b"`,
			field: func(c *Config) any { return &c.SSO.Tenant }},
		{Name: "sso.client", Doc: "The id of the app registration (\"Application (client) ID\").", Example: `"1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90"`,
			field: func(c *Config) any { return &c.SSO.Client }},
		{Name: "sso.authority", Doc: "The issuer; {tenant} is the tenant's id. National clouds have hosts of their own: login.microsoftonline.us, login.partner.microsoftonline.cn.",
			check: checkAuthority, field: func(c *Config) any { return &c.SSO.Authority }},
		{Name: "sso.redirect_uri", Doc: "The redirect URI as it is registered, which also says by which name browsers reach this machine. Empty: https://, the machine's name in its domain, the port of web.listen, /auth/oidc/callback. A path of another product, as /cgi-bin/loginTheme/sso/azure/main.html, is served as well.",
			Example: `"https://nas.contoso.com:8443/auth/oidc/callback"`, check: checkRedirect,
			field: func(c *Config) any { return &c.SSO.RedirectURI }},
		{Name: "sso.response_mode", Doc: "How the browser brings the answer: by a POST, or in the address.", Words: []string{"form_post", "query"},
			field: func(c *Config) any { return &c.SSO.ResponseMode }},
		{Name: "sso.secret_file", Doc: "A file with the client secret, which the user latchkey can read. `latchkey sso set --secret-stdin` makes one.", Example: `"/var/lib/latchkey/sso.secret"`,
			check: checkPath, field: func(c *Config) any { return &c.SSO.SecretFile }},
		{Name: "sso.secret_expires", Doc: "The day on which the secret ends, as the portal shows it: it is told 30 days ahead.", Example: `"2027-06-30"`,
			check: checkDay, field: func(c *Config) any { return &c.SSO.SecretExpires }},
		{Name: "sso.certificate_file", Doc: "A PEM file with a certificate that is registered with the app, and its RSA key: instead of a secret.", Example: `"/var/lib/latchkey/sso.pem"`,
			check: checkPath, field: func(c *Config) any { return &c.SSO.CertificateFile }},
		{Name: "sso.ca_file", Doc: "Certificates that are trusted for the tenant besides the machine's own, where a proxy looks into TLS.", Example: `"/etc/ssl/proxy.pem"`,
			check: checkPath, field: func(c *Config) any { return &c.SSO.CAFile }},
		{Name: "sso.idle", Doc: "How long a session lasts that is not used.", Min: int64(time.Minute), Max: int64(30 * 24 * time.Hour),
			field: func(c *Config) any { return &c.SSO.Idle }},
		{Name: "sso.lifetime", Doc: "How long a session lasts at most.", Min: int64(time.Minute), Max: int64(90 * 24 * time.Hour),
			field: func(c *Config) any { return &c.SSO.Lifetime }},
		{Name: "sso.app", Doc: "Programs of this machine that have people signed in by it.",
			Example: `[{ name = "photos", user = "www-data", redirect = ["https://photos.contoso.com/.latchkey/callback"] }]`,
			field:   func(c *Config) any { return &c.SSO.Apps },
			items: []itemKey{
				{Name: "name", Doc: "Its name, for logs and lists.", Required: true, check: checkAppName, field: item(func(a *App) any { return &a.Name })},
				{Name: "user", Doc: "Who may act as it: \"uid:33\", \"gid:33\", a local account's name, %name of a local group. It may call SsoService for this app, and nothing else that is not for everybody.",
					Required: true, check: checkAuthenticator, field: item(func(a *App) any { return &a.User })},
				{Name: "redirect", Doc: "Its redirect URIs, https, compared to the letter.", Required: true, check: checkRedirect, field: item(func(a *App) any { return &a.Redirects })},
			}},

		{Name: "api.authenticators", Doc: "Local programs that may ask the daemon to check passwords, besides root and the group latchkey-login: \"uid:33\", \"gid:33\", the name of a local account, or %name of a local group.",
			Example: `["www-data", "%shadow"]`, check: checkAuthenticator,
			field: func(c *Config) any { return &c.API.Authenticators }},

		{Name: "api.admins", Doc: "Domain users and %groups (names in any form, or SIDs) who may use what is otherwise root's and the group latchkey-admin's: admin.sock and the web console. A name is resolved once, to a person or group: who gets the name later does not have it. Members of a managed domain's own administrators are \"%AAD DC Administrators\".",
			Example: `["%AAD DC Administrators", "alice"]`, check: checkAdmin,
			field: func(c *Config) any { return &c.API.Admins }},

		{Name: "log.level", Doc: "The least important thing that is logged.",
			Words: []string{"debug", "info", "warn", "error"},
			field: func(c *Config) any { return &c.Log.Level }},
		{Name: "log.format", Doc: "text for people, json for programs.", Words: []string{"text", "json"}, Effect: NextRun,
			field: func(c *Config) any { return &c.Log.Format }},

		{Name: "limits.connections_per_uid", Doc: "Connections that one local uid may hold open on one socket; root may hold eight times as many, of this and of the two below.",
			Min: 4, Max: 100000, Effect: NextRun, field: func(c *Config) any { return &c.Limits.ConnectionsPerUID }},
		{Name: "limits.calls_per_uid", Doc: "Calls that one local uid may have under way on one socket.",
			Min: 4, Max: 100000, Effect: NextRun, field: func(c *Config) any { return &c.Limits.CallsPerUID }},
		{Name: "limits.streams_per_uid", Doc: "Streams (watches) that one local uid may hold open.",
			Min: 1, Max: 10000, Effect: NextRun, field: func(c *Config) any { return &c.Limits.StreamsPerUID }},
		{Name: "limits.request_bytes", Doc: "The longest request that is read, in bytes.",
			Min: 16 << 10, Max: 16 << 20, Effect: NextRun, field: func(c *Config) any { return &c.Limits.RequestBytes }},
		{Name: "limits.call_timeout", Doc: "The longest that a lookup may take.",
			Min: int64(time.Second), Max: int64(10 * time.Minute), Effect: NextRun, field: func(c *Config) any { return &c.Limits.CallTimeout }},

		{Name: "locked.keys", Doc: "Keys, or whole sections, that are refused anywhere but here.", Example: `["idmap", "nss.shell"]`,
			check: checkLockable, field: func(c *Config) any { return &c.Locked }},
	}
}

func templateDoc(what string) string {
	return what + " %u: the name, %U: the number, %D: the domain's short name, %d: its DNS name, %n: the display name, %p: the UPN, %l: the name's first letter, %%: a percent sign."
}

// Lookup returns the key of the given name.
func Lookup(name string) (Key, bool) {
	for _, k := range Keys() {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}
