// SPDX-License-Identifier: Apache-2.0

package smbconf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Settings are what the fragment says.
type Settings struct {
	Realm     string // "AADDS.CONTOSO.TEST"
	Workgroup string // the domain's NetBIOS name
	Netbios   string // the computer account without its dollar
	Low, High uint32 // the ids that latchkey gives
	// Aside are the domains for which smb.conf names a range of its own, of a
	// winbindd of before (IdmapDomains). testparm refuses ranges that overlap, and
	// nobody but winbindd reads these.
	Aside []string
}

// Parameter is one line of smb.conf, and why it is there.
type Parameter struct{ Name, Value, why string }

// Parameters returns what the fragment sets, in its order.
func (s Settings) Parameters() []Parameter {
	all := []Parameter{
		{"server role", "member server", "The domain decides who somebody is."},
		{"security", "ads", ""},
		{"realm", s.Realm, ""},
		{"workgroup", s.Workgroup, ""},
		{"netbios name", s.Netbios, ""},
		{"kerberos method", "dedicated keytab", "Tickets are opened with root's copy of the host keys; latchkey changes the\n# machine's password, and nobody else does."},
		{"dedicated keytab file", Keytab, ""},
		{"machine password timeout", "0", ""},
		{"tdbsam:map builtin", "no", "latchkey knows the gids of BUILTIN; smbd makes none of its own."},
		{"winbind use default domain", "yes", "Names are bare, as in ls -l."},
		{"idmap config * : backend", "tdb", "No winbindd runs; smbd wants a range to be named."},
		{"idmap config * : range", fmt.Sprintf("%d-%d", s.Low, s.High), ""},
	}
	for i, domain := range s.Aside {
		all = append(all, Parameter{"idmap config " + domain + " : range", fmt.Sprintf("%d-%d", i+1, i+1), "A range of a winbindd of before, put aside: testparm wants none to overlap."})
	}
	return all
}

func (s Settings) check() error {
	for _, word := range append([]string{s.Realm, s.Workgroup, s.Netbios}, s.Aside...) {
		if !isName(word) {
			return fault.Errorf(fault.Malformed, "not a name that smb.conf can carry: %.200q", word)
		}
	}
	if s.Low == 0 || s.High <= s.Low {
		return fault.Errorf(fault.Malformed, "not a range of ids: %d-%d", s.Low, s.High)
	}
	return nil
}

// isName reports whether smb.conf can carry a word as it is.
func isName(word string) bool {
	return word != "" && len(word) <= 255 && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// Record is what Remove has to know.
type Record struct {
	SMBConf   string // the file that includes the fragment
	DomainSID string // Samba's SID of the domain before; empty: it had none
	LocalSID  string // Samba's SID of this machine before; empty: it had none
}

const (
	headLine = "# Made by latchkey. `latchkey samba enable` writes this file anew, and\n# `latchkey samba disable` takes it away. What you add belongs in smb.conf.\n"
	record   = "# latchkey: "
	marker   = "# The next line was added by latchkey; \"latchkey samba disable\" takes it away again.\n"
	include  = "include = " + Fragment
)

// Render returns the fragment.
func Render(s Settings, r Record) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var body strings.Builder
	body.WriteString("[global]\n")
	for _, p := range s.Parameters() {
		if p.why != "" {
			fmt.Fprintf(&body, "\n# %s\n", p.why)
		}
		fmt.Fprintf(&body, "%s = %s\n", p.Name, p.Value)
	}
	var b bytes.Buffer
	b.WriteString(headLine)
	for _, line := range []struct{ name, value string }{
		{"smb.conf", r.SMBConf}, {"domain-sid-before", r.DomainSID}, {"local-sid-before", r.LocalSID}, {"sum", sum(body.String())},
	} {
		fmt.Fprintf(&b, "%s%s=%s\n", record, line.name, line.value)
	}
	b.WriteString("\n" + body.String())
	return b.Bytes(), nil
}

func sum(body string) string {
	h := sha256.Sum256([]byte(body))
	return hex.EncodeToString(h[:8])
}

// read takes a fragment apart: whether it is ours, whether somebody changed it
// since, and its record.
func read(text []byte) (r Record, made, changed bool) {
	rest, ok := strings.CutPrefix(string(text), headLine)
	if !ok {
		return r, false, false
	}
	was := ""
	for {
		line, after, _ := strings.Cut(rest, "\n")
		entry, ok := strings.CutPrefix(line, record)
		if !ok {
			break
		}
		rest = after
		switch name, value, _ := strings.Cut(entry, "="); name {
		case "smb.conf":
			r.SMBConf = value
		case "domain-sid-before":
			r.DomainSID = value
		case "local-sid-before":
			r.LocalSID = value
		case "sum":
			was = value
		}
	}
	return r, true, sum(strings.TrimPrefix(rest, "\n")) != was
}
