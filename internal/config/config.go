// SPDX-License-Identifier: Apache-2.0

// Package config reads what the administrator decided: /etc/latchkey/latchkey.toml,
// and after it the files of /var/lib/latchkey/conf.d, where `latchkey config set`
// keeps its changes.
//
// Every key is one entry of one table (keys.go). The checks, the example file,
// the manual page and `latchkey config show` all come from that table, so a key
// cannot exist without its words, its limits and its default.
//
// A file with a key that is not in the table, or with a value out of its range,
// is refused as a whole: a misspelt `reserved` that is silently ignored is a
// hole. The package never writes latchkey.toml, holds no secret, and changes
// nothing by itself: whoever loads a Config decides what to do with it.
package config

import (
	"net/netip"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

// Where the files are, unless told otherwise.
const (
	File   = "/etc/latchkey/latchkey.toml"
	Folder = "/var/lib/latchkey/conf.d"
)

// Where everything else is. These places are fixed: other programs of the
// machine know them.
const (
	RunDir      = "/run/latchkey"
	StateDir    = "/var/lib/latchkey"
	SnapshotDir = "/var/lib/latchkey-nss"
	Snapshot    = SnapshotDir + "/identities"
	LogDir      = "/var/log/latchkey"
	StoreFile   = StateDir + "/latchkey.db"
	KeytabFile  = StateDir + "/krb5.keytab"
)

// The accounts of this machine that the daemon lives by.
const (
	WorkerUser   = "latchkey"       // runs the half without privilege; has a group of that name
	AdminGroup   = "latchkey-admin" // may use admin.sock
	LoginGroup   = "latchkey-login" // may have passwords checked
	WinbindGroup = "winbindd_priv"  // may use winbind's privileged pipe
)

// Version is the one version of the file that this program reads.
const Version = 1

// People says where the passwords of the tenant come from.
type People string

// The values of directory.people. The empty one: nobody said yet.
const (
	PeopleUnknown   People = ""
	PeopleCloudOnly People = "cloud-only"
	PeopleHybrid    People = "hybrid"
)

// Config is everything that can be set. A Config from Load has passed every
// check; it is not changed afterwards, a reload makes a new one.
type Config struct {
	Version   int64
	Locked    []string // keys and sections that only latchkey.toml may set
	Directory Directory
	IDMap     IDMap
	Names     Names
	NSS       NSS
	Login     Login
	Samba     Samba
	NTLM      NTLM
	SSO       SSO
	Web       Web
	API       API
	Log       Log
	Limits    Limits
}

// Directory says how to reach the domain and how often to read it.
type Directory struct {
	DNS               []netip.AddrPort // DNS servers of the domain; empty: as at the join
	DomainControllers []string         // host names or addresses; empty: as at the join
	People            People           // empty: as at the join
	Tenant            identity.GUID    // zero: as at the join
	SyncInterval      time.Duration
	SweepInterval     time.Duration
	FullInterval      time.Duration
	MaxDeletions      int64 // per cent of the rows that one sweep may drop
	KeyInterval       time.Duration
	SSHKeys           string // the attribute with public keys; empty: none is read
}

// IDMap says how SIDs become numbers.
type IDMap struct {
	Method string
	Base   int64 // 0, as in the other fields: the method's own
	Size   int64
	Slice  int64
	First  int64
}

// Map returns the arithmetic for the accounts of a domain.
func (m IDMap) Map(domain identity.SID) (*idmap.Map, error) {
	return idmap.New(idmap.Config{Method: idmap.Method(m.Method), Base: uint32(m.Base), Size: uint32(m.Size),
		Slice: uint32(m.Slice), First: uint32(m.First)}, domain)
}

// Range returns the first and the last number that the arithmetic may give.
// The configuration must have passed its checks.
func (m IDMap) Range() (low, high uint32, err error) {
	full, err := m.Map(anyDomain)
	if err != nil {
		return 0, 0, err
	}
	c := full.Config()
	return c.Base, c.Base + c.Size - 1, nil
}

// anyDomain stands for a domain where only the range matters.
var anyDomain = identity.MustParseSID("S-1-5-21-1-2-3")

// Names says which bare names are refused on top of the shipped list.
type Names struct {
	Reserved []string
}

// NSS says how rows look to the machine, and which of them it sees.
type NSS struct {
	Home      string
	Shell     string
	Gecos     string
	Enumerate bool
	Overrides []Override
	Users     Filter
	Groups    Filter
}

// Override changes the look of the members of a group. Of several that match
// a person, the first one that sets a field wins.
type Override struct {
	Group string // any form of the group's name, or its SID
	Home  string // empty: as it would be without this
	Shell string
	Gecos string
}

// Filter chooses which rows are published. Every list that is not empty must
// agree; Hide has the last word.
type Filter struct {
	InGroups []string // members of one of these groups, nested ones too; groups themselves for Groups
	Under    []string // distinguished names of containers
	Match    []string // patterns over the published name
	Hide     []string // patterns over the published name
}

// Login says how people sign in.
type Login struct {
	AlternateID bool          // people may sign in by their mail address
	Offline     string        // "on" or "off"
	OfflineAge  time.Duration // of the last good password
	PasswordURL string        // where people of Entra ID change their password
}

// Samba says how an unmodified smbd is served. Interface is the version of the
// protocol on winbind's pipes; 0: the one of the smbd that is installed.
type Samba struct {
	Pipes          bool // whether the daemon opens winbind's pipes
	Pipe           string
	PrivilegedPipe string
	Interface      int64
}

// NTLM says which ways of it are taken beside NTLMv2.
type NTLM struct {
	MSCHAPv2 bool // responses of MS-CHAPv2, for RADIUS
}

// Web says where browsers reach the machine, and from where one is asked for a
// Kerberos ticket.
type Web struct {
	Listen          string // host:port; empty: nowhere
	Certificate     string // PEM files; empty: a self-signed one
	Key             string
	Hostnames       []string // empty: the machine's name in its domain
	Negotiate       bool     // a ticket signs in
	NegotiateFrom   []string // networks
	NegotiateGroups []string // names or SIDs; empty: everybody
}

// SSO says where people sign in by a browser, and which apps ask for it.
type SSO struct {
	Tenant, Client  identity.GUID
	Authority       string
	RedirectURI     string // empty: made from the machine's name
	ResponseMode    string
	SecretFile      string
	SecretExpires   string // a day, as 2027-06-30; empty: not known
	CertificateFile string
	CAFile          string
	Idle, Lifetime  time.Duration
	Apps            []App
}

// App is a program of this machine that has people signed in by it.
type App struct {
	Name      string
	User      string // as in api.authenticators
	Redirects []string
}

// API says who may call what.
type API struct {
	Authenticators []string // on api.sock
	Admins         []string // domain users and groups who may use admin.sock
}

// Log says what is logged, and how.
type Log struct {
	Level  string
	Format string
}

// Limits keeps one caller from starving the others.
type Limits struct {
	ConnectionsPerUID int64
	CallsPerUID       int64
	StreamsPerUID     int64
	RequestBytes      int64
	CallTimeout       time.Duration
}

// Default returns the configuration of a machine without any file.
func Default() Config {
	limits := peer.DefaultLimits()
	return Config{
		Version: Version,
		Directory: Directory{
			SyncInterval:  30 * time.Second,
			SweepInterval: 15 * time.Minute,
			KeyInterval:   30 * 24 * time.Hour,
			FullInterval:  24 * time.Hour,
			MaxDeletions:  10,
		},
		IDMap: IDMap{Method: "rid"},
		NSS: NSS{
			Home:      "/home/%D/%u",
			Shell:     "/bin/bash",
			Gecos:     "%n",
			Enumerate: true,
		},
		Login: Login{Offline: "on", OfflineAge: 14 * 24 * time.Hour, PasswordURL: "https://mysignins.microsoft.com/security-info/password/change"},
		Web:   Web{Listen: ":8443", Negotiate: true},
		SSO:   SSO{Authority: oidc.DefaultAuthority, ResponseMode: oidc.FormPost, Idle: 12 * time.Hour, Lifetime: 7 * 24 * time.Hour},
		Samba: Samba{Pipe: "/run/samba/winbindd/pipe", PrivilegedPipe: "/var/lib/samba/winbindd_privileged/pipe"},
		Log:   Log{Level: "info", Format: "text"},
		Limits: Limits{
			ConnectionsPerUID: int64(limits.ConnectionsPerUID),
			CallsPerUID:       int64(limits.CallsPerUID),
			StreamsPerUID:     int64(limits.StreamsPerUID),
			RequestBytes:      int64(limits.RequestBytes),
			CallTimeout:       limits.CallTimeout,
		},
	}
}
