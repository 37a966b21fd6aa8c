// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func connect(t *testing.T, handler func(fakeQuery) ([]Entry, bool)) *Conn {
	t.Helper()
	net, dcs := newNetwork(t, 1)
	dcs[0].with(handler)
	c := net.client(t, net.locator(t))
	c.cfg.PageSize = 10
	conn, err := c.Conn(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestSearchPages(t *testing.T) {
	var all []Entry
	for i := range 37 {
		all = append(all, Entry{DN: fmt.Sprintf("CN=%d,%s", i, testBase), Attributes: []Attribute{Text("n", strconv.Itoa(i))}})
	}
	conn := connect(t, func(q fakeQuery) ([]Entry, bool) { return all, true })
	var got []string
	if err := conn.Search(ctxFor(t), Query{Base: testBase, Scope: Subtree}, func(e Entry) error {
		got = append(got, e.First("n"))
		return nil
	}); err != nil || len(got) != 37 || got[36] != "36" {
		t.Errorf("got %v, %v, want 37 in order", got, err)
	}
	stop := errors.New("enough")
	n := 0
	if err := conn.Search(ctxFor(t), Query{Base: testBase, Scope: Subtree}, func(Entry) error {
		if n++; n == 12 {
			return stop
		}
		return nil
	}); err != stop || n != 12 {
		t.Errorf("stopped by %v after %d, want our own error after 12", err, n)
	}
	if _, err := conn.RootDSE(ctxFor(t)); err != nil {
		t.Errorf("the connection after a search that was stopped: %v", err)
	}
}

// ranged answers like a DC that hands out limit values at a time.
func ranged(q fakeQuery, values []string, limit int) []Attribute {
	var out []Attribute
	for _, a := range q.attrs {
		m := regexp.MustCompile(`^member(;range=(\d+)-\*)?$`).FindStringSubmatch(a)
		if m == nil {
			continue
		}
		from, _ := strconv.Atoi(m[2])
		to := min(from+limit, len(values))
		name := fmt.Sprintf("member;range=%d-%d", from, to-1)
		if to == len(values) {
			name = fmt.Sprintf("member;range=%d-*", from)
		}
		if m[1] == "" {
			if len(values) <= limit {
				return []Attribute{Text("member", values...)}
			}
			out = append(out, Attribute{Name: "member"}) // as Windows does
		}
		out = append(out, Text(name, values[from:to]...))
	}
	return out
}

func TestRangesAreCompleted(t *testing.T) {
	var members []string
	for i := range 95 {
		members = append(members, fmt.Sprintf("CN=%d", i))
	}
	for _, n := range []int{0, 1, 9, 10, 11, 20, 30, 95} {
		conn := connect(t, func(q fakeQuery) ([]Entry, bool) {
			if strings.HasPrefix(q.base, "<GUID=") && q.base != "<GUID="+testGUID.String()+">" {
				return nil, true
			}
			return []Entry{{DN: "<GUID=" + testGUID.String() + ">;CN=g," + testBase, Attributes: ranged(q, members[:n], 10)}}, true
		})
		err := conn.Search(ctxFor(t), Query{Base: testBase, Scope: Subtree, Attributes: []string{"member"}, ExtendedDN: true}, func(e Entry) error {
			var got []string
			for _, v := range e.Values("member") {
				got = append(got, string(v))
			}
			if !slices.Equal(got, members[:n]) {
				t.Errorf("%d members: got %v", n, got)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%d members: %v", n, err)
		}
	}
}

func TestRangesThatGoWrong(t *testing.T) {
	first := Text("member;range=0-1", "CN=a", "CN=b")
	for name, tc := range map[string]struct {
		follow func() ([]Entry, bool)
		seen   int
		want   fault.Kind
	}{
		"object gone meanwhile": {func() ([]Entry, bool) { return nil, true }, 0, fault.Unknown},
		"shrank meanwhile":      {func() ([]Entry, bool) { return []Entry{{DN: "CN=g"}}, true }, 2, fault.Unknown},
		"counts nonsense": {func() ([]Entry, bool) {
			return []Entry{{DN: "CN=g", Attributes: []Attribute{Text("member;range=2-9", "CN=c")}}}, true
		}, 0, fault.Malformed},
		"goes back": {func() ([]Entry, bool) {
			return []Entry{{DN: "CN=g", Attributes: []Attribute{Text("member;range=0-1", "CN=a", "CN=b")}}}, true
		}, 0, fault.Malformed},
	} {
		conn := connect(t, func(q fakeQuery) ([]Entry, bool) {
			if q.attrs[0] == "member" {
				return []Entry{{DN: "CN=g," + testBase, Attributes: []Attribute{first}}}, true
			}
			return tc.follow()
		})
		seen := 0
		err := conn.Search(ctxFor(t), Query{Base: testBase, Scope: Subtree, Attributes: []string{"member"}}, func(e Entry) error {
			seen = len(e.Values("member"))
			return nil
		})
		if fault.KindOf(err) != tc.want || seen != tc.seen {
			t.Errorf("%s: %v with %d values seen, want %v with %d", name, err, seen, tc.want, tc.seen)
		}
	}
}

func TestCutRange(t *testing.T) {
	for attribute, want := range map[string]struct {
		name string
		next int
		ok   bool
	}{
		"member;range=0-1499": {"member", 1500, true}, "member;Range=1500-*": {"member", -1, true}, "member": {"", 0, false},
		"member;binary": {"", 0, false}, "member;range=": {"", 0, false}, "member;range=a-b": {"", 0, false}, "member;range=0-2147483647": {"", 0, false},
		"member;range=-1-5": {"", 0, false}, ";range=0-*": {"", -1, true},
	} {
		name, next, ok := cutRange(attribute)
		if name != want.name || next != want.next || ok != want.ok {
			t.Errorf("cutRange(%q) = %q, %d, %v, want %+v", attribute, name, next, ok, want)
		}
	}
}

func TestGetSaysNotFound(t *testing.T) {
	conn := connect(t, func(fakeQuery) ([]Entry, bool) { return nil, true })
	if e, err := conn.Get(ctxFor(t), "CN=nobody,"+testBase); !fault.Is(err, fault.NotFound) {
		t.Errorf("Get = %+v, %v, want not found", e, err)
	}
}
