// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"fmt"
	"strings"
)

// An AptSource is one repository of an apt configuration: one line of
// sources.list(5), or one pair of URI and suite of a deb822 stanza.
type AptSource struct {
	Options    []string // options of the repository other than the key and the types, such as "check-valid-until=no"
	URI        string
	Suite      string // "bookworm-updates", or "./" for a flat repository
	Components []string
	SignedBy   string // a path, several paths or fingerprints separated by commas, an armoured key block, or empty: the keys apt trusts for everything
}

// ParseSourcesList reads the one-line format of sources.list(5). Lines that
// are empty, comments, deb-src or of a CD are left out. A line that is none of
// those is an error that names its number.
func ParseSourcesList(text string) ([]AptSource, error) {
	var found []AptSource
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		kind, rest := cutWord(line)
		if kind == "deb-src" {
			continue
		}
		if kind != "deb" {
			return nil, fmt.Errorf("line %d: type %q is neither deb nor deb-src", number, kind)
		}
		var source AptSource
		if strings.HasPrefix(rest, "[") {
			options, after, closed := strings.Cut(rest[1:], "]")
			if !closed {
				return nil, fmt.Errorf("line %d: options are not closed by ]", number)
			}
			rest = strings.TrimSpace(after)
			for _, option := range strings.Fields(options) {
				name, value, hasValue := strings.Cut(option, "=")
				if !hasValue {
					return nil, fmt.Errorf("line %d: option %q has no value", number, option)
				}
				name = strings.ToLower(strings.TrimRight(name, "+-"))
				if name == "signed-by" {
					source.SignedBy = value
					continue
				}
				source.Options = append(source.Options, name+"="+value)
			}
		}
		if strings.HasPrefix(rest, "cdrom:") {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %d: an address and a suite are needed", number)
		}
		source.URI, source.Suite, source.Components = fields[0], fields[1], fields[2:]
		if len(source.Components) == 0 && !strings.HasSuffix(source.Suite, "/") {
			return nil, fmt.Errorf("line %d: suite %q has no components", number, source.Suite)
		}
		found = append(found, source)
	}
	return found, lines.Err()
}

// ParseDeb822Sources reads the deb822 format of sources.list(5), as in
// /etc/apt/sources.list.d/*.sources. Stanzas with "Enabled: no" and those that
// hold only deb-src are left out.
func ParseDeb822Sources(text string) ([]AptSource, error) {
	stanzas, err := parseDeb822(text)
	if err != nil {
		return nil, err
	}
	var found []AptSource
	for _, stanza := range stanzas {
		switch strings.ToLower(stanza["enabled"]) {
		case "no", "false", "off", "without", "disable", "0":
			continue
		}
		if !containsWord(stanza["types"], "deb") {
			continue
		}
		uris, suites := strings.Fields(stanza["uris"]), strings.Fields(stanza["suites"])
		if len(uris) == 0 || len(suites) == 0 {
			return nil, fmt.Errorf("a stanza has no URIs or no Suites")
		}
		var options []string
		for _, name := range []string{"trusted", "check-valid-until", "check-date", "allow-insecure"} {
			if value := stanza[name]; value != "" {
				options = append(options, name+"="+value)
			}
		}
		for _, uri := range uris {
			for _, suite := range suites {
				found = append(found, AptSource{
					Options: options, URI: uri, Suite: suite,
					Components: strings.Fields(stanza["components"]), SignedBy: stanza["signed-by"],
				})
			}
		}
	}
	return found, nil
}

// parseDeb822 splits deb822(5) text into stanzas keyed by lower-case field
// name. A continuation line keeps its line break; a line holding one dot
// stands for an empty one.
func parseDeb822(text string) ([]map[string]string, error) {
	var stanzas []map[string]string
	var current map[string]string
	field := ""
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			current, field = nil, ""
		case line[0] == ' ' || line[0] == '\t':
			if field == "" {
				return nil, fmt.Errorf("line %d continues no field", number)
			}
			more := strings.TrimSpace(line)
			if more == "." {
				more = ""
			}
			current[field] = strings.TrimPrefix(current[field]+"\n"+more, "\n")
		default:
			name, value, colon := strings.Cut(line, ":")
			if !colon || strings.TrimSpace(name) == "" {
				return nil, fmt.Errorf("line %d is not a field", number)
			}
			if current == nil {
				current = map[string]string{}
				stanzas = append(stanzas, current)
			}
			field = strings.ToLower(strings.TrimSpace(name))
			current[field] = strings.TrimSpace(value)
		}
	}
	return stanzas, lines.Err()
}

// Line prints the source in the one-line format. The key is given separately,
// because its path inside a base differs from its path on the host.
func (s AptSource) Line(signedBy string) string {
	options := s.Options
	if signedBy != "" {
		options = append([]string{"signed-by=" + signedBy}, options...)
	}
	var line strings.Builder
	line.WriteString("deb ")
	if len(options) > 0 {
		line.WriteString("[" + strings.Join(options, " ") + "] ")
	}
	line.WriteString(s.URI + " " + s.Suite)
	for _, component := range s.Components {
		line.WriteString(" " + component)
	}
	return line.String()
}

// ForSuite picks the sources of a Debian release out of everything this
// machine uses, and names them as release wants: from codename "bookworm" the
// suites bookworm, bookworm-updates and bookworm-security become trixie,
// trixie-updates and trixie-security. Sources of other projects are left out.
func ForSuite(sources []AptSource, codename, release string) []AptSource {
	var picked []AptSource
	seen := map[string]bool{}
	for _, source := range sources {
		for _, own := range []string{codename, "stable", "oldstable", "testing"} {
			if own == "" {
				continue
			}
			rest, isOwn := strings.CutPrefix(source.Suite, own)
			if !isOwn || rest != "" && rest != "-updates" && rest != "-security" && rest != "/updates" {
				continue
			}
			if !containsWord(strings.Join(source.Components, " "), "main") {
				continue
			}
			source.Suite = release + rest
			source.Components = []string{"main"}
			if id := source.URI + " " + source.Suite; !seen[id] {
				seen[id] = true
				picked = append(picked, source)
			}
			break
		}
	}
	return picked
}

func cutWord(line string) (word, rest string) {
	end := strings.IndexAny(line, " \t")
	if end < 0 {
		return line, ""
	}
	return line[:end], strings.TrimSpace(line[end:])
}

func containsWord(list, word string) bool {
	for _, have := range strings.Fields(list) {
		if have == word {
			return true
		}
	}
	return false
}
