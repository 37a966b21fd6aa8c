// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// USN is an update sequence number. It counts on one DC only: compare it
// together with the invocation id it came from.
type USN uint64

// RootDSE is what a DC says about itself and its domain (MS-ADTS 3.1.1.3.2).
type RootDSE struct {
	DNSHost             string // of the DC, lower case
	DefaultNC           string // DN of the domain
	ConfigurationNC     string
	SchemaNC            string
	RootDomainNC        string
	DSServiceName       string        // DN of the DC's NTDS settings
	InvocationID        identity.GUID // of the DC's database; changes when it is restored
	HighestCommittedUSN USN
	DomainLevel         int // functional levels: 4 is 2008 R2, 7 is 2016
	ForestLevel         int
	DCLevel             int
	CurrentTime         time.Time // the DC's clock
	SupportedControls   []string  // OIDs
	SASLMechanisms      []string
}

// RootDSE reads the DC's rootDSE and its invocation id.
func (c *Conn) RootDSE(ctx context.Context) (RootDSE, error) { return RootDSE{}, errUnbuilt }
