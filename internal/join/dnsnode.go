// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Active Directory keeps a DNS name in an object (MS-DNSP 2.3.6, dnsNode) that
// belongs to the account which registered it first. A DNS update takes the
// records away and leaves the object, marked as dead: an account of the same name
// that is made later may not write to it, and its machine stays without a name.

// nodeDN is where the machine's name is kept.
func nodeDN(ctx context.Context, t tree, m *store.Machine) (string, error) {
	d, err := t.Domain(ctx)
	if err != nil {
		return "", err
	}
	label := strings.TrimSuffix(strings.TrimSuffix(m.FQDN, m.Domain.DNS), ".")
	return fmt.Sprintf("DC=%s,DC=%s,CN=MicrosoftDNS,DC=DomainDnsZones,%s", directory.EscapeRDN(label), directory.EscapeRDN(m.Domain.DNS), d.DN), nil
}

// dropNode deletes the object of the machine's name with the rights of t: of the
// machine itself, to which it belongs.
func dropNode(ctx context.Context, t tree, m *store.Machine) error {
	dn, err := nodeDN(ctx, t, m)
	if err != nil {
		return err
	}
	return t.Delete(ctx, dn)
}

// dropDeadNode is dropNode for whoever joins, who touches no name that lives.
// false: there is no dead one, or it may not be deleted.
func dropDeadNode(ctx context.Context, t tree, m *store.Machine) bool {
	dn, err := nodeDN(ctx, t, m)
	if err != nil {
		return false
	}
	e, err := t.Get(ctx, dn, "dNSTombstoned")
	return err == nil && strings.EqualFold(e.First("dNSTombstoned"), "TRUE") && t.Delete(ctx, dn) == nil
}

// ownNames are the ways by which a machine takes its names out of DNS.
type ownNames struct {
	zone zone
	tree tree  // nil: the object of the name stays
	err  error // why there is no zone
}

// openNames opens them with the machine's own tickets, which are good for a
// while after its account is gone.
func (j *Joiner) openNames(ctx context.Context, m *store.Machine, dc directory.DC) (n ownNames) {
	if n.zone, n.err = j.openZone(ctx, m, dc); n.err != nil {
		return n
	}
	t, err := j.net.bind(ctx, dc, kerberos.Account(m.ComputerAccount, dc.Realm()), kerberos.Password(m.Password))
	if err != nil {
		j.cfg.Log.Debug("the object of the machine's DNS name stays", "error", err)
		return n
	}
	n.tree = t
	return n
}

func (n ownNames) close() {
	if n.err == nil {
		n.zone.close()
	}
	if n.tree != nil {
		_ = n.tree.Close()
	}
}
