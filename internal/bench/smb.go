// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/peers"
	"github.com/latchkey-nas/latchkey/internal/lab/smb"
)

//go:embed smbclient.py
var smbClient string

// Figures of the chapter.
const (
	smbTurns  = 6  // of each side, in turn
	smbLogins = 10 // in a turn
	smbAtOnce = 8  // clients
	smbFiles  = 10000
	smbOwners = 500
)

const smbShares = `[data]
   path = /srv/data
   read only = no
[many]
   path = /srv/many
`

// smbSide is one smbd and whom it asks.
type smbSide struct {
	name   string
	server *smb.Server
	client *smb.Client
	base   uint32                          // uid of the RID 0
	again  func(ctx context.Context) error // starts what the smbd asks, with nothing cached
}

// benchSMB measures what a client of a share waits for: two boxes with the same
// smbd, one asks latchkey, one winbindd.
func benchSMB(ctx context.Context, s *stage, r *report) error {
	client, err := s.lab.Box(ctx, "smbclient", lab.BoxOptions{UseDNS: true, Krb5Conf: true})
	if err != nil {
		return err
	}
	conf := fmt.Sprintf("[global]\nworkgroup = %s\nrealm = %s\n", s.domain.NetBIOS, s.domain.Realm())
	if err := client.WriteFile(ctx, "/tmp/client.conf", []byte(conf), 0o644); err != nil {
		return err
	}
	ours, err := smbOurs(ctx, s, client)
	if err != nil {
		return err
	}
	theirs, err := smbTheirs(ctx, s, client)
	if err != nil {
		return err
	}
	sides := []*smbSide{ours, theirs}
	for n := range 40 {
		if err := smbTickets(ctx, client, sides, n); err != nil {
			return err
		}
	}
	if err := smbSignIns(ctx, sides, r); err != nil {
		return err
	}
	if err := smbRate(ctx, sides, r); err != nil {
		return err
	}
	return smbListing(ctx, sides, s, r)
}

// smbBig is in 900 groups, for which it gets its own.
const smbBig = 9

// smbOurs is the stage's NAS with latchkey and no winbindd.
func smbOurs(ctx context.Context, s *stage, client *lab.Box) (*smbSide, error) {
	who, err := s.domain.Find(ctx, lab.UserName(smbBig))
	if err != nil {
		return nil, err
	}
	groups := make([]lab.Group, 900)
	for i := range groups {
		groups[i] = lab.Group{Name: fmt.Sprintf("smbmany%04d", i), Members: []string{who.DN}}
	}
	if err := s.domain.AddGroups(ctx, groups); err != nil {
		return nil, err
	}
	if _, err := s.sync(ctx, false); err != nil {
		return nil, err
	}
	if err := s.nas.UseNSS(ctx); err != nil {
		return nil, err
	}
	enabled, err := s.nas.EnableSMB(ctx, smbShares)
	if err != nil {
		return nil, err
	}
	if !enabled.Ok() {
		return nil, fmt.Errorf("latchkey samba enable: %s", enabled)
	}
	// Neither side asks PAM.
	if _, err := s.nas.Output(ctx, "sh", "-c", "sed -i '/obey pam/d' /etc/samba/smb.conf; install -d -m 1777 /srv/data; install -d /srv/many"); err != nil {
		return nil, err
	}
	server, err := smb.Serve(ctx, s.nas.Box, s.nas.Hostname()+"."+s.domain.DNS)
	if err != nil {
		return nil, err
	}
	c, err := smb.Connect(ctx, client, server, s.domain)
	return &smbSide{name: "latchkey", server: server, client: c, base: 100000001, again: func(ctx context.Context) error {
		_, err := s.nas.Output(ctx, "sh", "-c", "net cache flush; pkill -9 -f '^latchkeyd worker'; sleep 1; id "+lab.UserName(1))
		return err
	}}, err
}

// smbTheirs is a box with winbindd and its rid backend.
func smbTheirs(ctx context.Context, s *stage, client *lab.Box) (*smbSide, error) {
	box, err := s.lab.Box(ctx, "smbwb", lab.BoxOptions{UseDNS: true, Krb5Conf: true})
	if err != nil {
		return nil, err
	}
	peer, err := peers.Winbind(ctx, box, s.domain, false)
	if err != nil {
		return nil, err
	}
	if _, err := box.Output(ctx, "sh", "-c", "printf '"+strings.ReplaceAll(smbShares, "\n", `\n`)+"' >>/etc/samba/smb.conf; install -d -m 1777 /srv/data; install -d /srv/many"); err != nil {
		return nil, err
	}
	server, err := smb.Serve(ctx, box, box.Hostname()+"."+s.domain.DNS)
	if err != nil {
		return nil, err
	}
	c, err := smb.Connect(ctx, client, server, s.domain)
	return &smbSide{name: peer.Name, server: server, client: c, base: 2000000, again: func(ctx context.Context) error {
		stop := "kill $(cat /run/samba/winbindd.pid); for i in $(seq 100); do pgrep -x winbindd >/dev/null || break; sleep 0.05; done; rm -f /var/lib/samba/winbindd_cache.tdb; net cache flush"
		if _, err := box.Output(ctx, "sh", "-c", stop); err != nil {
			return err
		}
		return peer.StartDaemon(ctx)
	}}, err
}

// smbTickets gets somebody a TGT and one ticket for each server, so that what is
// measured is the server's share of a sign-in.
func smbTickets(ctx context.Context, client *lab.Box, sides []*smbSide, n int) error {
	if err := sides[0].client.Kinit(ctx, lab.UserName(n), lab.UserPassword(n)); err != nil {
		return err
	}
	for _, side := range sides {
		if _, err := client.Output(ctx, "kvno", "-c", smb.Cache(lab.UserName(n)), "cifs/"+side.server.FQDN); err != nil {
			return err
		}
	}
	return nil
}

// connect signs people in, count times each, and returns what each time took.
func (s *smbSide) connect(ctx context.Context, mode string, count int, people ...int) ([]sample, error) {
	args := []string{"python3", "-", s.server.FQDN, mode, strconv.Itoa(count)}
	for _, n := range people {
		args = append(args, lab.UserName(n)+":"+lab.UserPassword(n))
	}
	c := s.client.Command(args...)
	c.Stdin = strings.NewReader(smbClient)
	out, err := c.Output(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	var all []sample
	for line := range strings.Lines(out) {
		var one sample
		for _, word := range strings.Fields(line) {
			ms, err := strconv.ParseFloat(word, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", s.name, line, err)
			}
			one = append(one, time.Duration(ms*float64(time.Millisecond)))
		}
		all = append(all, one)
	}
	return all, nil
}

func smbSignIns(ctx context.Context, sides []*smbSide, r *report) error {
	rows := [][]string{{"sign-in", sides[0].name, sides[1].name, "ratio of the medians"}}
	show := func(s sample) string { return short(s.median()) + " / " + short(s.quantile(0.9)) }
	add := func(name string, took [2]sample) {
		rows = append(rows, []string{name, show(took[0]), show(took[1]), ratio(took[0].median(), took[1].median())})
	}
	for at, mode := range []string{"ntlm", "ticket"} {
		var first [2]sample
		for i, side := range sides {
			if err := side.again(ctx); err != nil {
				return err
			}
			people := make([]int, 12)
			for k := range people {
				people[k] = 11 + 14*at + k
			}
			all, err := side.connect(ctx, mode, 1, people...)
			if err != nil {
				return err
			}
			for _, one := range all[1:] { // the very first opens channels
				first[i] = append(first[i], one...)
			}
		}
		add(mode+", somebody's first", first)
		for _, who := range []struct {
			about string
			n     int
		}{{"in few groups", 1}, {"in 208 groups", 0}, {"in 900 groups", smbBig}} {
			var took [2]sample
			for range smbTurns { // in turn, so that the machine's moods fall on both
				for i, side := range sides {
					all, err := side.connect(ctx, mode, smbLogins+1, who.n)
					if err != nil {
						return err
					}
					took[i] = append(took[i], all[0][1:]...)
				}
			}
			add(mode+", "+who.about, took)
		}
	}
	r.table("One sign-in to a share (connect, session, tree), p50 / p90", rows...)
	return nil
}

// smbRate is how many sign-ins a second get through when clients press.
func smbRate(ctx context.Context, sides []*smbSide, r *report) error {
	rows := [][]string{{"sign-ins per second, 8 clients at once", sides[0].name, sides[1].name, "ratio"}}
	for _, mode := range []string{"ntlm", "ticket"} {
		var rates [2]float64
		for range 2 {
			for i, side := range sides {
				ended := make(chan error, smbAtOnce)
				began := time.Now()
				for n := range smbAtOnce {
					go func() {
						_, err := side.connect(ctx, mode, 4*smbLogins, 11+n)
						ended <- err
					}()
				}
				for range smbAtOnce {
					if err := <-ended; err != nil {
						return err
					}
				}
				rates[i] = max(rates[i], float64(smbAtOnce*4*smbLogins)/time.Since(began).Seconds())
			}
		}
		rows = append(rows, []string{mode, fmt.Sprintf("%.0f", rates[0]), fmt.Sprintf("%.0f", rates[1]), fmt.Sprintf("%.2f", rates[0]/rates[1])})
	}
	r.table("Many sign-ins, the clients on the same cores", rows...)
	return nil
}

// smbListing lists a folder whose files belong to many, with nothing cached.
func smbListing(ctx context.Context, sides []*smbSide, s *stage, r *report) error {
	entries, err := s.domain.Search(ctx, s.domain.UsersDN(), "(sAMAccountName=user*)", "sAMAccountName", "objectSid")
	if err != nil {
		return err
	}
	if len(entries) < smbOwners {
		return fmt.Errorf("the domain has %d people, %d are wanted", len(entries), smbOwners)
	}
	var listed, owners [2]sample
	for _, side := range sides {
		var files strings.Builder
		for n := range smbFiles {
			sid := entries[n%smbOwners].Attrs["objectSid"][0]
			rid := uint32(sid[len(sid)-4]) | uint32(sid[len(sid)-3])<<8 | uint32(sid[len(sid)-2])<<16 | uint32(sid[len(sid)-1])<<24
			fmt.Fprintf(&files, "f%05d %d\n", n, side.base+rid)
		}
		c := side.server.Command("python3", "-c", `import os,sys
for line in sys.stdin:
    name, uid = line.split()
    open("/srv/many/" + name, "w").close()
    os.chown("/srv/many/" + name, int(uid), -1)`)
		c.Stdin = strings.NewReader(files.String())
		if _, err := c.Output(ctx); err != nil {
			return err
		}
	}
	for range 3 {
		for i, side := range sides {
			if err := side.again(ctx); err != nil {
				return err
			}
			c := side.client.Command("python3", "-", side.server.FQDN, "list", "1", lab.UserName(1)+":"+lab.UserPassword(1))
			c.Stdin = strings.NewReader(smbClient)
			out, err := c.Output(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", side.name, err)
			}
			var list, own float64
			var n, different int
			if _, err := fmt.Sscan(out, &list, &own, &n, &different); err != nil || n != smbFiles || different != smbOwners {
				return fmt.Errorf("%s: %d files of %d owners: %q, %w", side.name, n, different, out, err)
			}
			listed[i] = append(listed[i], time.Duration(list*1e6))
			owners[i] = append(owners[i], time.Duration(own*1e6))
		}
	}
	r.table("A folder of 10,000 files of 500 owners, nothing cached",
		[]string{"", sides[0].name, sides[1].name, "ratio of the medians"},
		[]string{"listing", listed[0].String(), listed[1].String(), ratio(listed[0].median(), listed[1].median())},
		[]string{"asking for 500 owners, one by one", owners[0].String(), owners[1].String(), ratio(owners[0].median(), owners[1].median())})
	return nil
}
