// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// domain is Rows in memory.
type domain struct {
	incomplete bool
	users      []*identity.User
	groups     []*identity.Group
	direct     map[identity.RowID][]identity.RowID
}

func (d *domain) Complete() bool { return !d.incomplete }

func (d *domain) Users(fn func(*identity.User) error) error {
	for _, u := range d.users {
		c := *u
		if err := fn(&c); err != nil {
			return err
		}
	}
	return nil
}

func (d *domain) Groups(fn func(*identity.Group) error) error {
	for _, g := range d.groups {
		c := *g
		if err := fn(&c); err != nil {
			return err
		}
	}
	return nil
}

func (d *domain) DirectMembers(g identity.RowID) []identity.RowID { return d.direct[g] }

func (d *domain) MembersOf(g identity.RowID) []identity.RowID {
	seen := map[identity.RowID]struct{}{}
	inside(d, g, seen)
	var out []identity.RowID
	for _, u := range d.users {
		if _, ok := seen[u.Row]; ok {
			out = append(out, u.Row)
		}
	}
	return out
}

func (d *domain) GroupsOf(user identity.RowID) (groups []identity.RowID) {
	for _, g := range d.groups {
		if slices.Contains(d.MembersOf(g.Row), user) {
			groups = append(groups, g.Row)
		}
	}
	return groups
}

func (d *domain) Group(key identity.Key) (*identity.Group, error) {
	for _, g := range d.groups {
		if key.Kind == identity.BySID && g.SID == key.SID || key.Kind == identity.ByName && identity.Fold(key.Name) == identity.Fold(g.Account) {
			return g, nil
		}
	}
	return nil, fault.Errorf(fault.NotFound, "no group %v", key)
}

const base = 100000001

var sid = identity.MustParseSID("S-1-5-21-1-2-3")

func people() *domain {
	d := &domain{direct: map[identity.RowID][]identity.RowID{}}
	user := func(row identity.RowID, name, display, dn string, state identity.State) {
		d.users = append(d.users, &identity.User{Common: identity.Common{Row: row, SID: sid.WithRID(uint32(row)), Name: name, Account: name, DisplayName: display,
			DN: dn, State: state, Aliases: []string{`contoso\` + name, name + "@contoso.test"}},
			UID: identity.UID(base + row), GID: base + 513, UPN: name + "@contoso.test"})
	}
	group := func(row identity.RowID, name, dn string, members ...identity.RowID) {
		d.groups = append(d.groups, &identity.Group{Common: identity.Common{Row: row, SID: sid.WithRID(uint32(row)), Name: name, Account: name, DN: dn}, GID: identity.GID(base + row), Security: true})
		d.direct[row] = members
	}
	const ou, other = ",OU=AADDC Users,DC=contoso,DC=test", ",OU=Lab\\, Rats,OU=Other,DC=contoso,DC=test"
	user(1001, "ana", "Ana Núñez", "CN=Ana"+ou, 0)
	user(1002, "bob", "Bob: the \n builder", "CN=Bob"+ou, identity.Disabled)
	user(1003, "cleo", "", "CN=Cleo"+other, identity.Guest)
	user(1004, "svc-backup", "Backup", "CN=Backup"+ou, 0)
	user(1005, `CONTOSO\root`, "Not Root", "CN=Root"+ou, 0)
	user(1006, "", "Nobody", "CN=Nobody"+ou, 0)
	group(513, "domain users", "CN=Domain Users,CN=Users,DC=contoso,DC=test", 1001, 1002, 1003, 1004, 1005, 1006)
	group(2001, "designers", "CN=Designers"+ou, 1001, 2002)
	group(2002, "painters", "CN=Painters"+ou, 1003, 2001) // a loop
	group(2003, "dl-news", "CN=News"+other, 1002)
	d.groups = append(d.groups, &identity.Group{Common: identity.Common{Row: 3000, Name: "", Account: "mail"}})
	return d
}

var contoso = identity.Domain{NetBIOS: "CONTOSO", DNS: "contoso.test", Realm: "CONTOSO.TEST", SID: sid}

func settings() Settings {
	return Settings{Home: "/home/%D/%u", Shell: "/bin/bash", Gecos: "%n", Enumerate: true}
}

func policy(t testing.TB, s Settings) *Policy {
	t.Helper()
	p, err := NewPolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func built(t testing.TB, rows Rows, s Settings) (*snapshot.Reader, *Look, *Report) {
	t.Helper()
	im, look, report, err := Build(context.Background(), rows, Input{Domain: contoso, Policy: policy(t, s), Ranges: []snapshot.Range{{Low: base, High: base + 99999999}}, Generation: 1})
	if err != nil {
		t.Fatal(err)
	}
	r, err := snapshot.Open(im.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(snapshot.Rules{Ranges: []snapshot.Range{{Low: base, High: base + 99999999}}}); err != nil {
		t.Fatal(err)
	}
	return r, look, report
}

func names(r *snapshot.Reader) (users, groups, hidden []string) {
	for u := range r.Users() {
		users = append(users, u.Name)
		if u.Hidden {
			hidden = append(hidden, u.Name)
		}
	}
	for g := range r.Groups() {
		groups = append(groups, g.Name)
		if g.Hidden {
			hidden = append(hidden, g.Name)
		}
	}
	slices.Sort(users)
	slices.Sort(groups)
	slices.Sort(hidden)
	return users, groups, hidden
}

func TestBuildShowsTheDomain(t *testing.T) {
	r, _, report := built(t, people(), settings())
	users, groups, hidden := names(r)
	if want := []string{`CONTOSO\root`, "ana", "bob", "cleo", "svc-backup"}; !slices.Equal(users, want) {
		t.Errorf("users %q, want %q", users, want)
	}
	if want := []string{"designers", "dl-news", "domain users", "painters"}; !slices.Equal(groups, want) {
		t.Errorf("groups %q, want %q", groups, want)
	}
	if want := []string{"bob", "cleo"}; !slices.Equal(hidden, want) {
		t.Errorf("hidden %q, want the disabled one and the guest, %q", hidden, want)
	}
	if report.Users != 5 || report.Groups != 4 || report.Nameless != 2 || report.Hidden != 2 || report.Filtered != 0 || len(report.Refused) != 0 {
		t.Errorf("report %+v", report)
	}
	ana, _ := r.UserByName(`Contoso\ANA`)
	if ana.Gecos != "Ana Núñez" || ana.Dir != "/home/CONTOSO/ana" || ana.Shell != "/bin/bash" {
		t.Errorf("ana looks like %+v", ana)
	}
	if want := []uint32{base + 513, base + 2001, base + 2002}; !slices.Equal(ana.GIDs, want) {
		t.Errorf("ana's gids %v, want %v", ana.GIDs, want)
	}
	root, _ := r.UserByName(`contoso\root`)
	if root.Name != `CONTOSO\root` || root.Dir != "/home/CONTOSO/CONTOSO+root" {
		t.Errorf("the other root looks like %+v", root)
	}
	if g, _ := r.GroupByName("designers"); !slices.Equal(g.Members, []string{"ana", "cleo"}) {
		t.Errorf("designers are %q", g.Members)
	}
}

func TestPolicyChoosesRows(t *testing.T) {
	all := []string{`CONTOSO\root`, "ana", "bob", "cleo", "svc-backup"}
	for name, tc := range map[string]struct {
		filter        Filter
		users, groups []string
	}{
		"nothing said":         {Filter{}, all, []string{"designers", "dl-news", "domain users", "painters"}},
		"by group":             {Filter{InGroups: []string{"Designers"}}, []string{"ana", "cleo"}, []string{"designers", "painters"}},
		"by SID of a group":    {Filter{InGroups: []string{"S-1-5-21-1-2-3-2003"}}, []string{"bob"}, []string{"dl-news"}},
		"by a group not there": {Filter{InGroups: []string{"nosuch"}}, nil, nil},
		"under an OU":          {Filter{Under: []string{"ou=aaddc users"}}, []string{`CONTOSO\root`, "ana", "bob", "svc-backup"}, []string{"designers", "painters"}},
		"under a full DN":      {Filter{Under: []string{"OU=Other, DC=contoso, DC=test"}}, []string{"cleo"}, []string{"dl-news"}},
		"under a comma":        {Filter{Under: []string{"Rats"}}, nil, nil},
		"under a part":         {Filter{Under: []string{"OU=AADDC"}}, nil, nil},
		"by pattern":           {Filter{Match: []string{"*A*", "d?-*"}}, []string{"ana", "svc-backup"}, []string{"dl-news", "domain users", "painters"}},
		"but not":              {Filter{Hide: []string{"SVC-*", "dl-*", "bob"}}, []string{`CONTOSO\root`, "ana", "cleo"}, []string{"designers", "domain users", "painters"}},
		"all must agree":       {Filter{Under: []string{"OU=AADDC Users"}, Match: []string{"[a-b]*"}}, []string{"ana", "bob"}, nil},
		"hide is the last":     {Filter{Match: []string{"ana", "painters"}, Hide: []string{"*"}}, nil, nil},
	} {
		s := settings()
		s.Users, s.Groups = tc.filter, tc.filter
		r, _, report := built(t, people(), s)
		users, groups, _ := names(r)
		if !slices.Equal(users, tc.users) || !slices.Equal(groups, tc.groups) {
			t.Errorf("%s: %q and %q, want %q and %q", name, users, groups, tc.users, tc.groups)
		}
		if report.Users+report.Groups+report.Filtered != 9 {
			t.Errorf("%s: report %+v does not account for nine rows", name, report)
		}
		if (name == "by a group not there") != (len(report.Unknown) > 0) {
			t.Errorf("%s: unknown groups %q", name, report.Unknown)
		}
		if ana, ok := r.UserByName("ana"); ok && len(ana.GIDs) != 3 {
			t.Errorf("%s: a group that is not published is out of ana's list %v", name, ana.GIDs)
		}
	}
	s := settings()
	s.Enumerate = false
	r, _, report := built(t, people(), s)
	if _, listed, _, listedGroups := r.Counts(); listed != 0 || listedGroups != 0 || report.Hidden != 9 {
		t.Errorf("enumerate = false lists %d users and %d groups", listed, listedGroups)
	}
	if _, ok := r.UserByName("ana"); !ok {
		t.Error("enumerate = false took a lookup away")
	}
}

func TestOverrides(t *testing.T) {
	s := settings()
	s.Overrides = []Override{
		{Group: "painters", Shell: "/bin/zsh"},
		{Group: "designers", Shell: "/bin/fish", Home: "/tank/%l/%u"},
		{Group: "nosuch", Shell: "/bin/false"},
	}
	r, look, report := built(t, people(), s)
	for name, want := range map[string][2]string{
		"ana":  {"/bin/zsh", "/tank/a/ana"}, // in designers, and so in painters
		"cleo": {"/bin/zsh", "/tank/c/cleo"},
		"bob":  {"/bin/bash", "/home/CONTOSO/bob"},
	} {
		u, _ := r.UserByName(name)
		if u.Shell != want[0] || u.Dir != want[1] {
			t.Errorf("%s has %s and %s, want %v", name, u.Shell, u.Dir, want)
		}
		for _, row := range people().users {
			if row.Name == name {
				if look.Fill(row); row.Shell != u.Shell || row.Home != u.Dir || row.Gecos != u.Gecos {
					t.Errorf("%s looks otherwise to a door than to getent: %+v, %+v", name, row, u)
				}
			}
		}
	}
	if !slices.Equal(report.Unknown, []string{"nosuch"}) {
		t.Errorf("unknown groups %q", report.Unknown)
	}
}

func TestARowThatNoSnapshotMayCarryIsLeftOut(t *testing.T) {
	d := people()
	d.users[0].UID = 0x7fffffff
	d.groups[1].GID = 27
	r, _, report := built(t, d, settings())
	if _, ok := r.UserByName("ana"); ok || len(report.Refused) == 0 {
		t.Errorf("a uid outside the ranges was published; refused: %v", report.Refused)
	}
	if _, ok := r.GroupByGID(27); ok {
		t.Error("gid 27 was published")
	}
	for _, err := range report.Refused {
		if !fault.Is(err, fault.Malformed) {
			t.Errorf("refused by %v, want malformed", err)
		}
	}
	d = people()
	d.users[1].Name = d.users[0].Name
	if _, _, _, err := Build(context.Background(), d, Input{Domain: contoso, Policy: policy(t, settings()), Ranges: []snapshot.Range{{Low: base, High: base + 9999}}}); !fault.Is(err, fault.Conflict) {
		t.Errorf("two rows of one name: %v, want conflict", err)
	}
}

func TestErrorsOfTheRowsComeBack(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	in := Input{Domain: contoso, Policy: policy(t, settings()), Ranges: []snapshot.Range{{Low: base, High: base + 9999}}}
	if _, _, _, err := Build(ctx, people(), in); !fault.Is(err, fault.Unreachable) {
		t.Errorf("Build when it is over: %v", err)
	}
	if _, _, _, err := Build(context.Background(), broken{people()}, in); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Build of a broken store: %v", err)
	}
	in.Ranges = nil
	if _, _, _, err := Build(context.Background(), people(), in); !fault.Is(err, fault.Malformed) {
		t.Errorf("Build without ranges: %v", err)
	}
}

type broken struct{ *domain }

func (broken) Users(func(*identity.User) error) error { return io.ErrUnexpectedEOF }

func TestSealedMeansSealed(t *testing.T) {
	im, _, _, err := Build(context.Background(), people(), Input{Domain: contoso, Policy: policy(t, settings()), Ranges: []snapshot.Range{{Low: base, High: base + 9999}}})
	if err != nil {
		t.Fatal(err)
	}
	f, digest, err := Seal(im)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, int64(im.Size())))
	if err != nil {
		t.Fatal(err)
	}
	r, err := snapshot.Open(data)
	if err != nil || r.Digest() != fmt.Sprintf("%x", digest) {
		t.Errorf("what was sealed is %v, digest %s, want %x", err, r.Digest(), digest)
	}
	if _, err := f.WriteAt([]byte{0}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to it: %v", err)
	}
	for _, size := range []int64{0, int64(im.Size()) + 4096} {
		if err := f.Truncate(size); !errors.Is(err, unix.EPERM) {
			t.Errorf("setting its size to %d: %v", size, err)
		}
	}
	if _, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Error("it can be mapped for writing")
	}
	if p, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err != nil || p != "/memfd:latchkey-identities (deleted)" {
		t.Errorf("it is %q, %v", p, err)
	}
}
