// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"context"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Search asks for rows whose names begin with a prefix.
type Search struct {
	Prefix string // any case, not empty
	Limit  int    // at least 1
	// Users and Groups choose the kinds; both false is both.
	Users, Groups bool
}

// rank is how well a row matches; lower is better.
type rank uint8

const (
	exact      rank = iota // the published name, the account, a mail address or the UPN is the prefix
	nameBegins             // the published name or the account begins with it
	wordBegins             // a word of the display name begins with it
	elseBegins             // something else of the row begins with it
	noMatch
)

// Search returns the rows that match, the best first, those of one rank in the
// order of published names. more: there are others. fault.Unreachable: the
// mirror was never complete.
func (r *Resolver) Search(ctx context.Context, s Search) (found []Entry, more bool, err error) {
	c, err := r.current(ctx)
	if err != nil {
		return nil, false, err
	}
	prefix := fold(s.Prefix)
	var hits [noMatch][]*item
	look := func(items []item) {
		var n [noMatch]int // of this kind; one over the limit says that there are more
		for i := range items {
			if k := items[i].match(prefix); k < noMatch && n[k] <= s.Limit {
				hits[k] = append(hits[k], &items[i])
				n[k]++
			}
		}
	}
	if s.Users || !s.Groups {
		look(c.of(identity.KindUser))
	}
	if s.Groups || !s.Users {
		look(c.of(identity.KindGroup))
	}
	var best []*item
	for _, some := range hits {
		slices.SortStableFunc(some, func(a, b *item) int { return a.mark().compare(b.mark()) })
		best = append(best, some...)
	}
	if more = len(best) > s.Limit; more {
		best = best[:s.Limit]
	}
	found, _, err = r.read(ctx, best)
	return found, more, err
}

// match ranks a row against a folded prefix. Most rows end at the first line.
func (it *item) match(prefix string) rank {
	if !strings.Contains(it.text, prefix) {
		return noMatch
	}
	best := noMatch
	fields(it.text[:it.display], func(name string) {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			best = min(best, nameBegins)
			if rest == "" {
				best = exact
			}
		}
		// "contoso\alice" is also found by "alice".
		if _, bare, ok := strings.Cut(name, `\`); ok && strings.HasPrefix(bare, prefix) {
			best = min(best, nameBegins)
		}
	})
	fields(it.text[it.mails:], func(other string) {
		if rest, ok := strings.CutPrefix(other, prefix); ok {
			best = min(best, elseBegins)
			if rest == "" && strings.Contains(other, "@") {
				best = exact
			}
		}
	})
	if best > wordBegins && wordPrefix(it.text[it.display:it.mails-len(joint)], prefix) {
		best = wordBegins
	}
	return best
}

// fields calls fn with the texts between joints that are not empty.
func fields(text string, fn func(string)) {
	for part := range strings.SplitSeq(text, joint) {
		if part != "" {
			fn(part)
		}
	}
}

// wordPrefix reports whether prefix begins at the start of a word of text. The
// prefix may go over several words.
func wordPrefix(text, prefix string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], prefix)
		if i < 0 {
			return false
		}
		at += i
		before, _ := utf8.DecodeLastRuneInString(text[:at])
		if at == 0 || !unicode.IsLetter(before) && !unicode.IsNumber(before) && !unicode.IsMark(before) {
			return true
		}
		_, size := utf8.DecodeRuneInString(text[at:])
		at += size
	}
}
