// SPDX-License-Identifier: Apache-2.0

package directory

import "strings"

// Attribute is one attribute with its raw values.
type Attribute struct {
	Name   string
	Values [][]byte
}

// Text makes an attribute of UTF-8 strings.
func Text(name string, values ...string) Attribute {
	a := Attribute{Name: name}
	for _, v := range values {
		a.Values = append(a.Values, []byte(v))
	}
	return a
}

// Entry is one object as the directory returned it: values raw, ranges of
// multi-valued attributes already completed.
type Entry struct {
	DN         string
	Attributes []Attribute
}

// Values returns the raw values of an attribute, any case; nil when absent.
func (e Entry) Values(name string) [][]byte {
	for _, a := range e.Attributes {
		if strings.EqualFold(a.Name, name) {
			return a.Values
		}
	}
	return nil
}

// First returns the first value as a string, "" when absent.
func (e Entry) First(name string) string {
	if v := e.Values(name); len(v) > 0 {
		return string(v[0])
	}
	return ""
}
