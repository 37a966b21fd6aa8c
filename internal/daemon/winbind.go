// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net"
	"path/filepath"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/store"
	"github.com/latchkey-nas/latchkey/internal/winbind"
)

// openWinbind prepares Samba's door. Without a store there is none: smbd takes
// a pipe that nobody answers for a daemon that is down, and says so.
func (d *Daemon) openWinbind() *winbind.Server {
	if d.store == nil {
		return nil
	}
	release := &sambaRelease{programs: []string{"/usr/sbin/smbd", "/usr/bin/wbinfo"}, forced: func() int64 { return d.settings.now().Samba.Interface }}
	return winbind.New(winbind.Config{Log: d.log, Latency: &d.took.pipes, Directory: d.resolver, IDs: numbers{d.store}, Login: d.login,
		Upstream: d.controllers, Membership: d.membership, Samba: release.find, Identify: peer.CallerOf,
		Enumerate:     func() bool { return d.settings.now().NSS.Enumerate },
		PrivilegedDir: filepath.Dir(d.settings.now().Samba.PrivilegedPipe)})
}

// serveWinbind serves the pipes where they are open. It is called when the
// membership has been taken up: a request that waits in the queue is better off
// than one that is told that nobody can be asked.
func (d *Daemon) serveWinbind(serve func(func() error)) {
	for _, name := range []peer.Name{peer.Winbind, peer.WinbindPriv} {
		var all []net.Listener
		for _, ln := range d.opt.Listeners[name] {
			all = append(all, ln)
		}
		if d.opt.Handed != nil {
			all = append(all, d.opt.Handed.Listener(name))
		}
		for _, ln := range all {
			if d.winbind == nil {
				_ = ln.Close()
				continue
			}
			serve(func() error { return d.winbind.Serve(ln, name) })
		}
	}
	if d.opt.Handed != nil {
		go func() { // ends with the monitor's end of it
			if err := d.opt.Handed.Run(); err != nil {
				d.log.Debug("no more connections come to winbind's pipes", "error", err)
			}
		}()
	}
}

// followPipes ends what is open on pipes that the monitor has closed, and has a
// channel to the domain ready for those that it has opened. Before the monitor
// has, whoever is cut off would connect again.
func (d *Daemon) followPipes(ctx context.Context, before *config.Loaded) {
	open := d.settings.now().Samba.Pipes
	if open == before.Samba.Pipes {
		return
	}
	m := d.current()
	switch {
	case !open && d.winbind != nil:
		d.winbind.Disconnect()
	case open && m != nil:
		go func() { _, _ = m.netlogon.Check(ctx) }() // it keeps why not
	}
}

// membership is the domain for Samba's door; nil while there is none.
func (d *Daemon) membership() *winbind.Membership {
	m := d.current()
	if m == nil {
		return nil
	}
	return &winbind.Membership{Domain: m.names, Computer: m.computer}
}

// computerName is the NetBIOS name of a computer account.
func computerName(account string) string { return strings.ToUpper(strings.TrimSuffix(account, "$")) }

// controllers is who knows the domain controllers; nil while there is no domain.
func (d *Daemon) controllers() winbind.Upstream {
	if m := d.current(); m != nil {
		return channel{m}
	}
	return nil
}

// channel is a membership's connections as Samba's door wants them.
type channel struct{ *member }

// DC returns the domain controller that the directory is read from.
func (c channel) DC() (winbind.DC, bool) {
	dc, ok := c.client.DC()
	if !ok {
		return winbind.DC{}, false
	}
	return controllerOf(dc), true
}

// What DsGetDcName says of its answer, beyond what the ping says of the DC
// (MS-NRPC 2.2.1.2.1): its names are DNS names.
const (
	dnsController = 0x20000000
	dnsDomain     = 0x40000000
	dnsForest     = 0x80000000
)

func controllerOf(dc directory.DC) winbind.DC {
	return winbind.DC{Host: dc.Host, Computer: dc.Computer, Addr: dc.Addr, Site: dc.Site, ClientSite: dc.ClientSite, Forest: dc.Forest,
		DomainGUID: dc.DomainGUID.String(), Flags: uint32(dc.Flags) | dnsController | dnsDomain | dnsForest}
}

// Check asks over the machine's secure channel.
func (c channel) Check(ctx context.Context) (string, error) {
	return c.netlogon.Check(ctx)
}

// numbers is the store as Samba's door wants it.
type numbers struct{ store *store.Store }

// IDsOfSIDs finds the numbers of SIDs, for ACLs.
func (n numbers) IDsOfSIDs(ctx context.Context, sids []identity.SID) ([]winbind.ID, error) {
	ids := make([]winbind.ID, len(sids))
	err := n.view(ctx, func(v *store.View) {
		for i, sid := range sids {
			if id, kind, ok := v.IDOfSID(sid); ok {
				ids[i] = winbind.ID{Kind: kind, Number: id}
			}
		}
	})
	return ids, err
}

// SIDsOfIDs finds the SIDs of numbers.
func (n numbers) SIDsOfIDs(ctx context.Context, ids []winbind.ID) ([]identity.SID, error) {
	sids := make([]identity.SID, len(ids))
	err := n.view(ctx, func(v *store.View) {
		for i, id := range ids {
			if id.Kind != 0 {
				sids[i], _ = v.SIDOfID(id.Number, id.Kind)
			}
		}
	})
	return sids, err
}

// GIDs finds the gids of a user.
func (n numbers) GIDs(ctx context.Context, user identity.RowID) (gids []identity.GID, err error) {
	err = n.view(ctx, func(v *store.View) { gids = append(gids, v.GIDs(user, nil)...) })
	return gids, err
}

// view looks once. Until the mirror has been complete, nobody knows who has no
// number.
func (n numbers) view(ctx context.Context, fn func(*store.View)) error {
	return n.store.View(ctx, func(v *store.View) error {
		if !v.Complete() {
			return fault.New(fault.Unreachable, "the directory has not been mirrored completely yet")
		}
		fn(v)
		return nil
	})
}

var _ winbind.Directory = (*resolve.Resolver)(nil)
