// SPDX-License-Identifier: Apache-2.0

package join

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
)

// fakeTree is the directory as one user sees it.
type fakeTree struct {
	w   *world
	who string
}

func (f *fakeTree) Close() error { return nil }

func ldapError(op string, code uint16) error {
	kind := map[uint16]fault.Kind{ldapNoSuchObject: fault.NotFound, ldapDenied: fault.Denied, ldapConstraint: fault.Denied, ldapUnwilling: fault.Denied,
		ldapAlreadyExists: fault.Conflict, ldapNotLeaf: fault.Conflict, ldapInvalidDN: fault.Malformed}[code]
	return fault.Wrap(kind, op, &directory.LDAPError{Code: code, Text: "the DC's words"})
}

func (f *fakeTree) allowed(op, dn string, names ...string) error {
	f.w.asked = append(f.w.asked, fmt.Sprintf("%s %s %s %s", f.who, op, dn, strings.Join(names, ",")))
	if f.w.refuse != nil {
		if code := f.w.refuse(f.who, op, dn, names); code != 0 {
			return ldapError(op+" "+dn, code)
		}
	}
	return nil
}

// find resolves a DN or "<SID=...>".
func (f *fakeTree) find(dn string) (string, map[string][][]byte, error) {
	for have, a := range f.w.objects {
		sid, err := identity.ParseSID(strings.TrimSuffix(strings.TrimPrefix(dn, "<SID="), ">"))
		if strings.EqualFold(have, dn) || (err == nil && len(a["objectSid"]) == 1 && string(a["objectSid"][0]) == string(sid.Bytes())) {
			return have, a, nil
		}
	}
	return "", nil, ldapError("look at "+dn, ldapNoSuchObject)
}

func (f *fakeTree) Domain(context.Context) (directory.Domain, error) {
	d := directory.Domain{Domain: identity.Domain{NetBIOS: "AADDSCONTOSO", DNS: testDomain, Realm: testRealm, SID: domainSID}, DN: testBase}
	if _, ok := f.w.objects[computersOU]; ok {
		d.ComputersOU = computersOU
	}
	return d, f.allowed("domain", testBase)
}

func (f *fakeTree) Get(_ context.Context, dn string, names ...string) (directory.Entry, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if err := f.allowed("get", dn, names...); err != nil {
		return directory.Entry{}, err
	}
	have, a, err := f.find(dn)
	if err != nil {
		return directory.Entry{}, err
	}
	return entry(have, a), nil
}

func entry(dn string, a map[string][][]byte) directory.Entry {
	e := directory.Entry{DN: dn}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		e.Attributes = append(e.Attributes, directory.Attribute{Name: name, Values: a[name]})
	}
	return e
}

// Search knows filters of equality and their "or", with plain values.
func (f *fakeTree) Search(_ context.Context, q directory.Query, fn func(directory.Entry) error) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if err := f.allowed("search", q.Base, q.Filter); err != nil {
		return err
	}
	for _, dn := range slices.Sorted(maps.Keys(f.w.objects)) {
		a := f.w.objects[dn]
		match := q.Scope == directory.Base && strings.EqualFold(dn, q.Base)
		for _, term := range strings.FieldsFunc(q.Filter, func(r rune) bool { return r == '(' || r == ')' || r == '|' }) {
			name, value, _ := strings.Cut(term, "=")
			for _, v := range a[name] {
				match = match || strings.EqualFold(string(v), value)
			}
		}
		if match {
			if err := fn(entry(dn, a)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fakeTree) Add(_ context.Context, dn string, attributes []directory.Attribute) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	a := map[string][][]byte{}
	var names []string
	for _, at := range attributes {
		names = append(names, at.Name)
		for _, v := range at.Values {
			a[at.Name] = append(a[at.Name], bytes.Clone(v))
		}
	}
	if err := f.allowed("add", dn, names...); err != nil {
		return err
	}
	if _, _, err := f.find(dn); err == nil {
		return ldapError("create "+dn, ldapAlreadyExists)
	}
	f.w.rid++
	a["objectSid"] = [][]byte{domainSID.WithRID(f.w.rid).Bytes()}
	password := a["unicodePwd"]
	delete(a, "unicodePwd")
	f.w.objects[dn] = a
	if len(password) == 1 {
		f.w.setPassword(a, password[0])
	}
	f.w.settle(a)
	return nil
}

func (f *fakeTree) Modify(_ context.Context, dn string, changes []directory.Change) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	var names []string
	for _, c := range changes {
		names = append(names, c.Attribute.Name)
	}
	if err := f.allowed("modify", dn, names...); err != nil {
		return err
	}
	_, a, err := f.find(dn)
	if err != nil {
		return err
	}
	for _, c := range changes {
		switch {
		case c.Attribute.Name == "unicodePwd" && c.Op == directory.DeleteValues: // the first half of a change
		case c.Attribute.Name == "unicodePwd":
			f.w.setPassword(a, c.Attribute.Values[0])
		case c.Op == directory.AddValues:
			a[c.Attribute.Name] = append(a[c.Attribute.Name], c.Attribute.Values...)
		default:
			a[c.Attribute.Name] = c.Attribute.Values
		}
	}
	f.w.settle(a)
	return nil
}

func (f *fakeTree) Delete(_ context.Context, dn string) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if err := f.allowed("delete", dn); err != nil {
		return err
	}
	have, _, err := f.find(dn)
	if err == nil {
		delete(f.w.objects, have)
	}
	return err
}

// setPassword gives a computer the password of a unicodePwd value.
func (w *world) setPassword(a map[string][][]byte, value []byte) {
	var units []uint16
	for i := 0; i+1 < len(value); i += 2 {
		units = append(units, uint16(value[i])|uint16(value[i+1])<<8)
	}
	kvno := int(number(entry("", a).First("msDS-KeyVersionNumber"))) + 1
	a["msDS-KeyVersionNumber"] = [][]byte{[]byte(strconv.Itoa(kvno))}
	acc := w.account(entry("", a).First("sAMAccountName"))
	acc.Password, acc.KVNO = strings.Trim(string(utf16.Decode(units)), `"`), kvno
}

// settle lets the KDC see the SPNs of a computer.
func (w *world) settle(a map[string][][]byte) {
	acc := w.account(entry("", a).First("sAMAccountName"))
	acc.Aliases = nil
	for _, v := range a["servicePrincipalName"] {
		class, host, _ := strings.Cut(string(v), "/")
		acc.Aliases = append(acc.Aliases, []string{class, host}, []string{strings.ToLower(class), strings.ToLower(host)})
	}
	if len(a["userAccountControl"]) == 1 && string(a["userAccountControl"][0]) == "4098" {
		acc.Code, acc.Status = int32(kerberos.CodeClientRevoked), uint32(kerberos.StatusAccountDisabled)
	} else {
		acc.Code, acc.Status = 0, 0
	}
}

// account returns the KDC's account of a computer, made when it is new.
func (w *world) account(name string) *krbtest.Account {
	if w.accounts[name] == nil {
		w.accounts[name] = w.kdcs.Add(krbtest.Account{Name: []string{name}, Salt: kerberos.MachineSalt(name, testDomain)})
	}
	return w.accounts[name]
}

// refuseAll refuses one operation to everybody.
func refuseAll(op string, code uint16) func(who, op, dn string, attrs []string) uint16 {
	return func(_, asked, _ string, _ []string) uint16 {
		if asked == op {
			return code
		}
		return 0
	}
}

// refuseAttr refuses to write an attribute, but for the first creation with
// only what is needed.
func refuseAttr(name string, code uint16) func(who, op, dn string, attrs []string) uint16 {
	return func(_, op, _ string, attrs []string) uint16 {
		if (op == "modify" || op == "add" && len(attrs) > 6) && slices.Contains(attrs, name) {
			return code
		}
		return 0
	}
}
