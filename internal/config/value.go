// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// assign puts a value, as the TOML reader gave it, where the key's value lives.
// An error says what is wrong with the value, for "key: …".
func (k Key) assign(c *Config, value any) error {
	switch field := k.field(c).(type) {
	case *int64:
		n, ok := value.(int64)
		if !ok {
			return errors.New("wants a number " + k.limits())
		}
		if (n < k.Min || n > k.Max) && (n != 0 || !k.zero) {
			return fmt.Errorf("is %d; allowed is %s", n, k.limits())
		}
		*field = n
	case *time.Duration:
		text, ok := value.(string)
		d, err := time.ParseDuration(text)
		if !ok || err != nil {
			return fmt.Errorf("wants a time as \"90s\", \"15m\" or \"1h\", %s", k.limits())
		}
		if int64(d) < k.Min || int64(d) > k.Max {
			return fmt.Errorf("is %q; allowed is %s", text, k.limits())
		}
		*field = d
	case *bool:
		b, ok := value.(bool)
		if !ok {
			return errors.New("wants true or false")
		}
		*field = b
	case *string:
		text, err := k.text(value)
		if err != nil {
			return err
		}
		*field = text
	case *People:
		text, err := k.text(value)
		if err != nil {
			return err
		}
		*field = People(text)
	case *identity.GUID:
		text, ok := value.(string)
		if !ok {
			return errors.New("wants a text")
		}
		if err := field.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%q is no id of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", text)
		}
	case *[]string:
		list, err := k.list(value)
		if err != nil {
			return err
		}
		*field = list
	case *[]netip.AddrPort:
		list, err := k.list(value)
		if err != nil {
			return err
		}
		addrs := make([]netip.AddrPort, 0, len(list))
		for _, s := range list {
			a, err := parseServer(s)
			if err != nil {
				return err
			}
			addrs = append(addrs, a)
		}
		*field = addrs
	case *[]Override:
		list, err := tablesOf[Override](k, value)
		if err != nil {
			return err
		}
		*field = list
	case *[]App:
		list, err := tablesOf[App](k, value)
		if err != nil {
			return err
		}
		*field = list
	default:
		return fmt.Errorf("has a value of a kind that nobody reads (%T)", field)
	}
	return nil
}

// text checks one string.
func (k Key) text(value any) (string, error) {
	s, ok := value.(string)
	if !ok {
		return "", errors.New("wants a text" + k.words())
	}
	if s == "" && k.clearable() {
		return s, nil
	}
	if k.Words != nil && !slices.Contains(k.Words, s) {
		hint := ""
		if n := nearest(s, k.Words); n != "" {
			hint = fmt.Sprintf("; did you mean %q?", n)
		}
		return "", fmt.Errorf("is %q; allowed is%s%s", s, strings.TrimPrefix(k.words(), ":"), hint)
	}
	if k.check != nil {
		if err := k.check(s); err != nil {
			return "", fmt.Errorf("%q %w", s, err)
		}
	}
	return s, nil
}

// list checks a list of strings. One bare string counts as a list of one.
func (k Key) list(value any) ([]string, error) {
	if s, ok := value.(string); ok {
		value = []any{s}
	}
	raw, ok := value.([]any)
	if !ok {
		return nil, errors.New(`wants a list of texts, as ["one", "two"]`)
	}
	list := make([]string, 0, len(raw))
	for _, v := range raw {
		s, ok := v.(string)
		if !ok {
			return nil, errors.New(`wants a list of texts, as ["one", "two"]`)
		}
		if k.check != nil {
			if err := k.check(s); err != nil {
				return nil, fmt.Errorf("%q %w", s, err)
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// tablesOf checks a list of tables. Unknown keys in them were found before.
func tablesOf[T any](k Key, value any) ([]T, error) {
	raw, ok := tables(value)
	if !ok {
		return nil, errors.New("wants a list of tables, as " + k.Example)
	}
	list := make([]T, len(raw))
	for i, table := range raw {
		for _, item := range k.items {
			v, given := table[item.Name]
			if !given && !item.Required {
				continue
			}
			var err error
			switch field := item.field(&list[i]).(type) {
			case *string:
				s, ok := v.(string)
				if !ok || (s == "" && item.Required) {
					return nil, fmt.Errorf("entry %d: %s wants a text", i+1, item.Name)
				}
				if err = item.check(s); err != nil {
					err = fmt.Errorf("%q %w", s, err)
				}
				*field = s
			case *[]string:
				if *field, err = (Key{check: item.check}).list(v); err == nil && len(*field) == 0 && item.Required {
					err = errors.New("is empty")
				}
			}
			if err != nil {
				return nil, fmt.Errorf("entry %d: %s: %w", i+1, item.Name, err)
			}
		}
	}
	return list, nil
}

// tables returns value as a list of tables.
func tables(value any) ([]map[string]any, bool) {
	raw, ok := value.([]any)
	if !ok {
		return nil, false
	}
	list := make([]map[string]any, len(raw))
	for i, v := range raw {
		if list[i], ok = v.(map[string]any); !ok {
			return nil, false
		}
	}
	return list, true
}

// parseServer reads an address with or without a port; 53 where none is given.
func parseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return a, fmt.Errorf("%q is no address: it wants 10.0.0.4, 10.0.0.4:53 or [fd00::4]:53", s)
	}
	return a, nil
}

// clearable says whether the empty text is a value: "not set".
func (k Key) clearable() bool {
	d := Default()
	switch field := k.field(&d).(type) {
	case *string:
		return *field == ""
	case *People:
		return true
	}
	return false
}

// words lists the allowed words, as `: "rid" or "sssd"`.
func (k Key) words() string {
	if k.Words == nil {
		return ""
	}
	quoted := make([]string, len(k.Words))
	for i, w := range k.Words {
		quoted[i] = strconv.Quote(w)
	}
	last := len(quoted) - 1
	if last == 0 {
		return ": " + quoted[0]
	}
	return ": " + strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// limits says the range of a number or time, as "from 1 to 100".
func (k Key) limits() string {
	d := Default()
	if _, ok := k.field(&d).(*time.Duration); ok {
		return "from " + shortDuration(time.Duration(k.Min)) + " to " + shortDuration(time.Duration(k.Max))
	}
	if k.Min == k.Max {
		return strconv.FormatInt(k.Min, 10)
	}
	text := fmt.Sprintf("from %d to %d", k.Min, k.Max)
	if k.zero {
		text = "0, or " + text
	}
	return text
}

// Allowed says what values the key takes, for people; empty where the words of
// the key say it all.
func (k Key) Allowed() string {
	d := Default()
	switch k.field(&d).(type) {
	case *int64, *time.Duration:
		return k.limits()
	case *bool:
		return "true or false"
	}
	return strings.TrimPrefix(k.words(), ": ")
}

// Value returns the key's value in c as TOML writes it.
func (k Key) Value(c *Config) string {
	switch field := k.field(c).(type) {
	case *int64:
		return strconv.FormatInt(*field, 10)
	case *bool:
		return strconv.FormatBool(*field)
	case *time.Duration:
		return strconv.Quote(shortDuration(*field))
	case *string:
		return tomlText(*field)
	case *People:
		return tomlText(string(*field))
	case *identity.GUID:
		return tomlText(field.String())
	case *[]string:
		return tomlList(*field)
	case *[]netip.AddrPort:
		list := make([]string, len(*field))
		for i, a := range *field {
			if list[i] = a.String(); a.Port() == 53 {
				list[i] = a.Addr().String()
			}
		}
		return tomlList(list)
	case *[]Override:
		return tomlTables(k, *field)
	case *[]App:
		return tomlTables(k, *field)
	}
	return ""
}

// tomlTables writes a list of tables.
func tomlTables[T any](k Key, list []T) string {
	items := make([]string, len(list))
	for i := range list {
		var parts []string
		for _, item := range k.items {
			switch field := item.field(&list[i]).(type) {
			case *string:
				if *field != "" {
					parts = append(parts, item.Name+" = "+tomlText(*field))
				}
			case *[]string:
				parts = append(parts, item.Name+" = "+tomlList(*field))
			}
		}
		items[i] = "{ " + strings.Join(parts, ", ") + " }"
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// tomlList writes a list of strings.
func tomlList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = tomlText(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// tomlText writes one string, literal where it has a backslash or a quote.
func tomlText(s string) string {
	if !strings.ContainsAny(s, `"\`) && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return `"` + s + `"`
	}
	out, err := toml.Marshal(map[string]string{"v": s})
	if err != nil {
		return strconv.Quote(s)
	}
	return string(bytes.TrimSpace(bytes.TrimPrefix(out, []byte("v = "))))
}

// shortDuration prints 15m, not 15m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
