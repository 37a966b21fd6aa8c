// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"net/netip"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// DCFlags are the capabilities that a DC states (DS_FLAG, MS-ADTS 6.3.1.2).
type DCFlags uint32

// The flags that are looked at.
const (
	DCIsPDC      DCFlags = 0x00000001
	DCIsGC       DCFlags = 0x00000004
	DCIsLDAP     DCFlags = 0x00000008
	DCIsDS       DCFlags = 0x00000010
	DCIsKDC      DCFlags = 0x00000020
	DCIsTime     DCFlags = 0x00000040
	DCIsClosest  DCFlags = 0x00000080 // in the client's site
	DCIsWritable DCFlags = 0x00000100
)

// Has reports whether every flag in o is set.
func (f DCFlags) Has(o DCFlags) bool { return f&o == o }

// DC is one domain controller, as it answered a CLDAP ping.
type DC struct {
	Host       string     // FQDN, lower case, no trailing dot
	Addr       netip.Addr // the address that answered
	Computer   string     // NetBIOS name of the DC
	Site       string     // the DC's site
	ClientSite string     // the site that the DC puts us in; empty when none
	NetBIOS    string     // NetBIOS name of the domain
	DNSDomain  string     // lower case
	Forest     string     // lower case
	DomainGUID identity.GUID
	Flags      DCFlags
	RTT        time.Duration // of the ping
}

// Realm returns the Kerberos realm of the domain.
func (d DC) Realm() string { return strings.ToUpper(d.DNSDomain) }
