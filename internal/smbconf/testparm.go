// SPDX-License-Identifier: Apache-2.0

package smbconf

import (
	"fmt"
	"slices"
	"strings"
)

// Effective reads the [global] section of what `testparm -s -v` prints: what
// holds when every file is read. Names are in lower case with single blanks.
func Effective(testparm string) map[string]string {
	values, global := map[string]string{}, false
	for line := range strings.Lines(testparm) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			global = strings.EqualFold(line, "[global]")
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !global || !ok || strings.HasPrefix(line, "#") {
			continue
		}
		values[plainName(name)] = strings.TrimSpace(value)
	}
	return values
}

// IdmapDomains returns the domains for which what holds names a range of ids, in
// upper case, in order. The default for all others ("*") is none of them.
func IdmapDomains(effective map[string]string) []string {
	var all []string
	for name := range effective {
		domain, ok := strings.CutPrefix(name, "idmap config ")
		domain, ranged := strings.CutSuffix(domain, ":range")
		if ok && ranged && isName(domain) {
			all = append(all, strings.ToUpper(domain))
		}
	}
	slices.Sort(all)
	return all
}

// plainName is a parameter's name as it is compared: blanks and case do not
// count in smb.conf, also not around the colon of parametric options.
func plainName(name string) string {
	name = strings.ToLower(strings.Join(strings.Fields(name), " "))
	return strings.ReplaceAll(strings.ReplaceAll(name, " :", ":"), ": ", ":")
}

// Overruled compares what holds with what the settings want and returns one
// sentence for each parameter that something else in smb.conf overrules.
func Overruled(effective map[string]string, s Settings) []string {
	var all []string
	for _, p := range s.Parameters() {
		have := effective[plainName(p.Name)]
		if !strings.EqualFold(have, p.Value) {
			all = append(all, fmt.Sprintf("%s = %s holds, %s is needed", p.Name, quoteEmpty(have), p.Value))
		}
	}
	return all
}

func quoteEmpty(s string) string {
	if s == "" {
		return `""`
	}
	return s
}
