// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/oidc"
)

// templateLetters are the letters that may follow a % in a template.
const templateLetters = "uUDdnpl%"

// checkText refuses what no name, path or pattern has: nothing, control
// characters, bytes that are not UTF-8.
func checkText(s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return errors.New("is empty")
	case len(s) > 1024:
		return errors.New("is longer than 1024 bytes")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return errors.New("has a control character or is not UTF-8")
	}
	return nil
}

// checkName wants something that could be asked for.
func checkName(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	return identity.CheckAsked(s)
}

// checkHost wants an address or a host name.
func checkHost(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	for _, label := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return errors.New("is neither a host name nor an address")
		}
	}
	return nil
}

// checkTemplate wants every % to be followed by a letter that means something,
// and nothing that would break a line of passwd.
func checkTemplate(s string) error {
	if s == "" {
		return nil
	}
	if err := checkText(s); err != nil {
		return err
	}
	if strings.Contains(s, ":") {
		return errors.New("has a colon, which ends a field of passwd")
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		i++
		if i == len(s) {
			return errors.New("ends in a single %; write %% for a percent sign")
		}
		if !strings.Contains(templateLetters, s[i:i+1]) {
			return fmt.Errorf("has %%%c, which means nothing; use %%u %%U %%D %%d %%n %%p %%l or %%%%", s[i])
		}
	}
	return nil
}

// checkTemplatePath wants a template of an absolute path.
func checkTemplatePath(s string) error {
	if s != "" && !strings.HasPrefix(s, "/") {
		return errors.New("is no absolute path")
	}
	if s != "" && strings.Contains("/"+s+"/", "/../") {
		return errors.New("has a .. in it")
	}
	return checkTemplate(s)
}

// checkSocketPath wants an absolute path that fits into an address of unix(7).
func checkSocketPath(s string) error {
	switch {
	case !path.IsAbs(s) || path.Clean(s) != s:
		return errors.New("is no plain absolute path")
	case len(s) > 107:
		return errors.New("is longer than 107 bytes")
	}
	return checkText(s)
}

// checkPattern wants a pattern that path.Match understands.
func checkPattern(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if _, err := path.Match(s, "x"); err != nil {
		return errors.New("is no pattern: a [ is not closed")
	}
	return nil
}

// checkAuthenticator wants one of the four forms of api.authenticators.
func checkAuthenticator(s string) error {
	kind, number, ok := strings.Cut(s, ":")
	if !ok {
		return checkName(strings.TrimPrefix(s, "%"))
	}
	if kind != "uid" && kind != "gid" {
		return errors.New(`is none of "uid:33", "gid:33", a local account's name, %group`)
	}
	if n, err := strconv.ParseUint(number, 10, 32); err != nil || n == 1<<32-1 {
		return fmt.Errorf("%q is no number from 0 to 4294967294", number)
	}
	return nil
}

// checkLockable wants the name of a key or of a section.
func checkLockable(s string) error {
	for _, k := range lockable() {
		if k == s {
			return nil
		}
	}
	return errors.New(didYouMean("is no key and no section", nearest(s, lockable())))
}

// lockable returns what locked.keys may name.
func lockable() []string {
	var names []string
	for _, s := range Sections() {
		if s.Name != "locked" {
			names = append(names, s.Name)
		}
	}
	for _, k := range keyNames() {
		if k != "version" && k != "locked.keys" {
			names = append(names, k)
		}
	}
	return names
}

// checkAttribute wants the name of an LDAP attribute, or none (RFC 4512 2.5).
func checkAttribute(s string) error {
	if s == "" {
		return nil
	}
	if len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" || strings.Trim(s[:1], "0123456789-") == "" {
		return errors.New("is no name of an attribute")
	}
	return nil
}

// checkAdmin wants a name, a %group or a SID: never everybody.
func checkAdmin(s string) error {
	if s == "*" || s == "%*" {
		return errors.New("is everybody; name a group")
	}
	return checkName(strings.TrimPrefix(s, "%"))
}

// checkAuthority wants an issuer that Entra ID, or a stand-in, could have.
func checkAuthority(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if _, err := oidc.Issuer(s, identity.GUID{1}); err != nil {
		return errors.New("is no https URL of an issuer, as " + oidc.DefaultAuthority)
	}
	return nil
}

// checkRedirect wants a redirect URI that Entra ID would register.
func checkRedirect(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if err := oidc.CheckRedirect(s); err != nil {
		return errors.New("is no redirect URI: https, a host and a path, without fragment, user or ! $ ' ( ) , ; *")
	}
	return nil
}

// checkPath wants an absolute path.
func checkPath(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if !path.IsAbs(s) || path.Clean(s) != s {
		return errors.New("is no absolute path")
	}
	return nil
}

// checkDay wants a day as ISO 8601 writes it.
func checkDay(s string) error {
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		return errors.New("is no day, as 2027-06-30")
	}
	return nil
}

// checkAppName wants a short plain name.
func checkAppName(s string) error {
	if s == "" || len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return errors.New("is no name of up to 64 small letters, digits, - and _")
	}
	return nil
}
