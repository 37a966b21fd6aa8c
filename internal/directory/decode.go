// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// objectAttributes are what decode reads.
var objectAttributes = []string{"objectClass", "objectGUID", "objectSid", "msDS-aadObjectId", "msDS-AzureADObjectId",
	"sAMAccountName", "userPrincipalName", "displayName", "givenName", "sn", "mail", "msDS-AzureADMailNickname",
	"userAccountControl", "primaryGroupID", "groupType", "pwdLastSet", "accountExpires", "lockoutTime", "sIDHistory",
	"member", "uSNChanged", "whenCreated", "isDeleted"}

// maxText is the longest text that is kept, in bytes; the schema allows 256
// characters where it matters.
const maxText = 4096

// maxDefects bounds the list of defects of one object.
const maxDefects = 16

// decoder turns an entry into an Object and notes what it could not read.
type decoder struct {
	entry Entry
	out   *Object
}

// decode reads an entry that was asked for with ExtendedDN. ok is false when
// there is no objectGUID: nothing can be known about such an object.
func decode(e Entry, synced []string) (o Object, ok bool) {
	d := decoder{entry: e, out: &o}
	guid := e.Values("objectGUID")
	if len(guid) != 1 {
		return Object{}, false
	}
	var err error
	if o.ObjectGUID, err = identity.GUIDFromBytes(guid[0]); err != nil || o.ObjectGUID.IsZero() {
		return Object{}, false
	}
	if o.DN = ParseReference(e.DN).DN; !utf8.ValidString(o.DN) {
		d.defect("distinguishedName", "not UTF-8")
		o.DN = ""
	}
	o.UnderSyncedOU = under(o.DN, synced)
	for _, c := range e.Values("objectClass") {
		switch strings.ToLower(string(c)) {
		case "user":
			if o.Class == ClassOther {
				o.Class = ClassUser
			}
		case "group":
			o.Class = ClassGroup
		}
	}
	for _, c := range e.Values("objectClass") {
		if strings.EqualFold(string(c), "computer") {
			o.Class = ClassOther
		}
	}
	if v := d.single("objectSid"); v != nil {
		if o.SID, err = identity.SIDFromBytes(v); err != nil {
			d.defect("objectSid", err.Error())
		}
	}
	o.OID = d.oid()
	for _, t := range []struct {
		name string
		into *string
	}{{"sAMAccountName", &o.SAMAccountName}, {"userPrincipalName", &o.UPN}, {"displayName", &o.DisplayName}, {"givenName", &o.GivenName},
		{"sn", &o.Surname}, {"mail", &o.Mail}, {"msDS-AzureADMailNickname", &o.MailNickname}} {
		*t.into = d.text(t.name)
	}
	o.UserAccountControl = d.number32("userAccountControl")
	o.PrimaryGroupID = d.number32("primaryGroupID")
	o.GroupType = d.number32("groupType")
	if v := d.single("pwdLastSet"); v != nil {
		o.PwdLastSet = d.fileTime("pwdLastSet")
		o.MustChange = string(v) == "0"
	}
	o.AccountExpires = d.fileTime("accountExpires")
	o.LockoutTime = d.fileTime("lockoutTime")
	for _, v := range e.Values("sIDHistory") {
		sid, err := identity.SIDFromBytes(v)
		if err != nil {
			d.defect("sIDHistory", err.Error())
			continue
		}
		o.SIDHistory = append(o.SIDHistory, sid)
	}
	if o.Class == ClassGroup {
		d.members()
	}
	if v := d.single("uSNChanged"); v != nil {
		n, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			d.defect("uSNChanged", "not a number")
		}
		o.USNChanged = USN(n)
	}
	if v := d.single("whenCreated"); v != nil {
		if o.WhenCreated, err = generalizedTime(string(v)); err != nil {
			d.defect("whenCreated", "not a time")
		}
	}
	o.IsDeleted = strings.EqualFold(e.First("isDeleted"), "TRUE")
	return o, true
}

func (d *decoder) defect(attribute, why string) {
	if len(d.out.Defects) < maxDefects {
		d.out.Defects = append(d.out.Defects, attribute+": "+why)
	}
}

// single returns the only value, nil when there is none; several are a defect
// and none.
func (d *decoder) single(name string) []byte {
	v := d.entry.Values(name)
	switch len(v) {
	case 0:
		return nil
	case 1:
		return v[0]
	}
	d.defect(name, fmt.Sprintf("%d values where one is allowed", len(v)))
	return nil
}

func (d *decoder) text(name string) string {
	v := d.single(name)
	switch {
	case v == nil:
		return ""
	case len(v) > maxText:
		d.defect(name, fmt.Sprintf("%d bytes long", len(v)))
		return ""
	case !utf8.Valid(v):
		d.defect(name, "not UTF-8")
		return ""
	}
	s := string(v)
	if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		d.defect(name, "has a control character")
		return ""
	}
	return s
}

// number32 reads an Integer, which LDAP prints signed (MS-ADTS 3.1.1.2.2.2).
func (d *decoder) number32(name string) uint32 {
	v := d.single(name)
	if v == nil {
		return 0
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < math.MinInt32 || n > math.MaxUint32 {
		d.defect(name, "not a number of 32 bits")
		return 0
	}
	return uint32(n)
}

// fileTime reads a LargeInteger that is a FILETIME; 0 and the largest mean
// never.
func (d *decoder) fileTime(name string) time.Time {
	v := d.single(name)
	if v == nil {
		return time.Time{}
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < -1 {
		d.defect(name, "not a time")
		return time.Time{}
	}
	return fromFileTime(n)
}

// oid reads the Entra object id from the attributes that may hold it.
func (d *decoder) oid() identity.GUID {
	var found identity.GUID
	for _, name := range []string{"msDS-aadObjectId", "msDS-AzureADObjectId"} {
		for _, v := range d.entry.Values(name) {
			g, err := identity.GUIDFromAttribute(v)
			if err != nil {
				d.defect(name, err.Error())
				continue
			}
			if !found.IsZero() && g != found {
				d.defect(name, "another object id than "+found.String())
				return identity.GUID{}
			}
			found = g
		}
	}
	return found
}

func (d *decoder) members() {
	values := d.entry.Values("member")
	d.out.Members = make([]Reference, 0, len(values))
	for _, v := range values {
		if len(v) == 0 || len(v) > maxText || !utf8.Valid(v) {
			d.defect("member", "a value is no DN")
			continue
		}
		d.out.Members = append(d.out.Members, ParseReference(string(v)))
	}
}

// fileTimeEpoch is 1 January 1601 in seconds before 1970.
const fileTimeEpoch = 11644473600

// fromFileTime converts 100 ns since 1601 (MS-DTYP 2.3.3). 0, negative and the
// years past 9999 are the zero time: never.
func fromFileTime(n int64) time.Time {
	if n <= 0 || n >= 2650467744000000000 { // 1 January 10000
		return time.Time{}
	}
	return time.Unix(n/1e7-fileTimeEpoch, n%1e7*100).UTC()
}

// generalizedTime reads the form that Active Directory writes:
// 20261122030632.0Z.
func generalizedTime(s string) (time.Time, error) {
	t, err := time.Parse("20060102150405.0Z", s)
	if err != nil {
		t, err = time.Parse("20060102150405Z", s)
	}
	return t.UTC(), err
}

// interval reads a LargeInteger that is a length of time: negative, in 100 ns.
// 0 and the smallest number mean none.
func interval(s string) time.Duration {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n >= 0 || n == math.MinInt64 {
		return 0
	}
	if n < -math.MaxInt64/100 {
		return math.MaxInt64
	}
	return time.Duration(-n) * 100
}
