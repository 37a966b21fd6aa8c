// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
)

// Example returns a latchkey.toml that explains itself: every key with its
// words, its limits and its default, all commented out but the version.
func Example() string {
	var b strings.Builder
	b.WriteString("# latchkey: what the administrator decides. Every key is optional; the values shown\n" +
		"# are the defaults, or an example where there is none. After a change:\n" +
		"# `latchkey config check`, then `systemctl reload latchkeyd`.\n\n")
	defaults := Default()
	section := ""
	for _, k := range Keys() {
		name, in := k.Name, ""
		if dot := strings.LastIndexByte(k.Name, '.'); dot >= 0 {
			in, name = k.Name[:dot], k.Name[dot+1:]
		}
		if in != section {
			section = in
			fmt.Fprintf(&b, "%s[%s]\n\n", comment(sectionDoc(in)), in)
		}
		b.WriteString(comment(k.explanation()))
		if k.Name == "version" {
			fmt.Fprintf(&b, "version = %d\n\n", Version)
			continue
		}
		value := k.Value(&defaults)
		if k.Example != "" && (value == `""` || value == "[]") {
			value = k.Example
		}
		fmt.Fprintf(&b, "#%s = %s\n\n", name, value)
	}
	return b.String()
}

// explanation joins the words of a key with what it allows and when it counts.
func (k Key) explanation() string {
	text := k.Doc
	if allowed := k.Allowed(); allowed != "" && allowed != "true or false" && k.Name != "version" {
		text += " Allowed: " + allowed + "."
	}
	for _, item := range k.items {
		text += fmt.Sprintf(" %s: %s%s", item.Name, strings.ToLower(item.Doc[:1]), item.Doc[1:])
	}
	if k.Effect != AtOnce && k.Name != "version" {
		text += " A change " + k.Effect.String() + "."
	}
	return text
}

// Manual returns the keys as the body of a manual page's section (man(7)).
func Manual() string {
	var b strings.Builder
	defaults := Default()
	section := ""
	for _, k := range Keys() {
		in := ""
		if dot := strings.LastIndexByte(k.Name, '.'); dot >= 0 {
			in = k.Name[:dot]
		}
		if in != section {
			section = in
			fmt.Fprintf(&b, ".SS [%s]\n%s\n", roff(in), roff(sectionDoc(in)))
		}
		value := k.Value(&defaults)
		if value == `""` || value == "[]" {
			value = "not set"
		}
		fmt.Fprintf(&b, ".TP\n.B %s\n%s Default: %s.\n", roff(k.Name), roff(k.explanation()), roff(value))
	}
	return b.String()
}

// roff protects what troff would read as a command.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

func sectionDoc(name string) string {
	for _, s := range Sections() {
		if s.Name == name {
			return s.Doc
		}
	}
	return ""
}

// comment wraps text at 90 columns behind "# ".
func comment(text string) string {
	var b strings.Builder
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > 90 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
	return b.String()
}
