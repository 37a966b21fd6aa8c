// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// program writes a script that says what `smbd -V` would.
func program(t *testing.T, path, says string) {
	t.Helper()
	next := path + ".new"
	if err := os.WriteFile(next, []byte("#!/bin/sh\necho x >> "+path+".asked\n"+says+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func TestSambaRelease(t *testing.T) {
	dir := t.TempDir()
	smbd, wbinfo := filepath.Join(dir, "smbd"), filepath.Join(dir, "wbinfo")
	forced := int64(0)
	r := &sambaRelease{programs: []string{smbd, wbinfo}, forced: func() int64 { return forced }}
	ask := func(want wire.Version, release string, kind fault.Kind) {
		t.Helper()
		s, err := r.find(t.Context())
		if s.Interface != want || s.Release != release || fault.KindOf(err) != kind {
			t.Errorf("got %d %q %v, want %d %q, kind %v", s.Interface, s.Release, err, want, release, kind)
		}
		if err != nil && fault.Remedy(err) == "" {
			t.Errorf("%v: no word about what to do", err)
		}
	}
	ask(0, "", fault.NotFound)
	program(t, wbinfo, "echo Version 4.16.4")
	ask(wire.V31, "4.16.4", 0)
	program(t, smbd, "echo Version 4.17.12-Debian")
	ask(wire.V32, "4.17.12-Debian", 0)
	ask(wire.V32, "4.17.12-Debian", 0)
	if asked, err := os.ReadFile(smbd + ".asked"); err != nil || string(asked) != "x\n" {
		t.Errorf("smbd was run %d times, want once: %v", len(asked)/2, err)
	}
	program(t, smbd, "echo Version 4.22.1-upgraded")
	ask(wire.V33, "4.22.1-upgraded", 0)
	program(t, smbd, "echo Version 4.99.0")
	ask(0, "4.99.0", fault.Conflict)
	forced = 33
	ask(wire.V33, "4.99.0", 0)
	forced = 0
	program(t, smbd, "exit 1")
	ask(0, "", fault.Unreachable)
	if err := os.Remove(smbd); err != nil {
		t.Fatal(err)
	}
	ask(wire.V31, "4.16.4", 0)
}

// pipe asks a question over a connection to the daemon.
func pipe(t *testing.T, conn net.Conn, cmd wire.Command, fill func(*wire.Request)) *wire.Response {
	t.Helper()
	req, err := wire.NewRequest(wire.V32, cmd)
	if err != nil {
		t.Fatal(err)
	}
	fill(req)
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := conn.Write(req.Append(nil)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, wire.ResponseSize)
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, int(binary.LittleEndian.Uint32(b))-len(b))...)
	if _, err := io.ReadFull(conn, b[wire.ResponseSize:]); err != nil {
		t.Fatal(err)
	}
	resp, err := wire.ReadResponse(b)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// Samba's door answers from disk, with the numbers that every other door gives,
// and lets nobody in while no domain controller can be asked.
func TestPipesServeFromDisk(t *testing.T) {
	b := newBox(t)
	b.joined()
	b.pipes = true
	b.write("etc/latchkey.toml", "version = 1\n[samba]\npipes = true\ninterface = 32\n")
	b.start()
	open := func(name string) net.Conn {
		conn, err := net.Dial("unix", filepath.Join(b.dir, "run", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	public, privileged := open("pipe"), open("priv")
	// The first question waits until the membership has been taken up.
	if a := pipe(t, public, wire.DomainName, func(*wire.Request) {}); !a.Succeeded() || a.Text() != "CONTOSO" {
		t.Errorf("DOMAIN_NAME: %q", a.Text())
	}
	if a := pipe(t, public, wire.NetBIOSName, func(*wire.Request) {}); a.Text() != "NAS" {
		t.Errorf("NETBIOS_NAME: %q", a.Text())
	}
	a := pipe(t, public, wire.GetPwNam, func(r *wire.Request) { r.SetText(`contoso\alice`) })
	if p := a.Passwd(); !a.Succeeded() || p.Name != "alice" || p.UID != 100001002 || p.GID != 100000514 {
		t.Errorf("GETPWNAM: %+v", p)
	}
	alice, users := contoso.SID.WithRID(1001), contoso.SID.WithRID(513)
	a = pipe(t, public, wire.SIDsToXIDs, func(r *wire.Request) {
		r.SetExtra([]byte(alice.String() + "\n" + users.String() + "\n" + contoso.SID.WithRID(7).String() + "\nS-1-5-32-544\n\x00"))
	})
	lines := strings.Split(string(a.Extra()), "\n")
	if len(lines) != 5 || lines[0] != "U100001002" || lines[1] != "G100000514" || lines[2] != "" || !strings.HasPrefix(lines[3], "G") {
		t.Fatalf("SIDS_TO_XIDS: %q", lines)
	}
	a = pipe(t, public, wire.XIDsToSIDs, func(r *wire.Request) { r.SetExtra([]byte("U100001002\nG100000514\n" + lines[3] + "\nG7\n\x00")) })
	if want := alice.String() + "\n" + users.String() + "\nS-1-5-32-544\n-\n\x00"; string(a.Extra()) != want {
		t.Errorf("XIDS_TO_SIDS: %q, want %q", a.Extra(), want)
	}
	a = pipe(t, public, wire.GetGroups, func(r *wire.Request) { r.SetText("alice") })
	if a.Number() != 1 || binary.LittleEndian.Uint32(a.Extra()) != 100000514 {
		t.Errorf("GETGROUPS: %d %v", a.Number(), a.Extra())
	}
	for _, w := range idmap.WellKnowns() {
		a := pipe(t, public, wire.LookupSID, func(r *wire.Request) { r.SetText(w.SID.String()) })
		if d, n, _ := a.Name(); d != w.Domain || n != w.Name {
			t.Errorf("LOOKUPSID %s: %q %q", w.SID, d, n)
		}
	}
	a = pipe(t, privileged, wire.PAMAuthCrap, func(r *wire.Request) {
		r.SetAuthCrap(&wire.AuthCrap{User: "alice", Domain: "CONTOSO", NT: make([]byte, 60), Flags: 0xe})
	})
	if got, err := a.Auth(); err != nil || a.Succeeded() || got.Status != 0xC000005E {
		t.Errorf("NTLM with no domain controller: %+v %v", got, err)
	}
}

// A Samba whose interface is not known, and a path on which nobody or somebody
// else listens, are told.
func TestStatusTellsOfSamba(t *testing.T) {
	b := newBox(t)
	b.joined()
	b.pipes = true
	path := filepath.Join(b.dir, "run", "pipe")
	config := "version = 1\n[samba]\npipes = true\npipe = \"" + path + "\"\n"
	b.write("etc/latchkey.toml", config)
	d, admin, _, _ := b.start()
	if p := problem(status(t, admin), "samba-pipes"); p != nil {
		t.Errorf("all is well, and status says %v", p)
	}
	d.winbind.Stop(t.Context()) // as when the file is gone
	b.waitFor("status says that nobody listens", func() bool {
		p := problem(status(t, admin), "samba-pipes")
		return p != nil && strings.Contains(p.GetSummary(), "nobody listens") && p.GetRemedy() != ""
	})
	_ = os.Remove(path)
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := listensAt(path, os.Getppid()); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Remedy(err), "winbind") {
		t.Errorf("somebody else listens: %v", err)
	}
	if err := listensAt(path, os.Getpid()); err != nil {
		t.Errorf("we listen: %v", err)
	}
}
