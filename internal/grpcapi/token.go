// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
)

// token is where a list or a watch goes on, in a form that clients hand back
// and do not look into. It is not signed: a made-up token shows nothing that
// could not be asked for anyway.
type token struct {
	use  byte   // what it is for, so that no token serves another method
	a, b uint64 // numbers
	text string // a name or cursor
}

// The uses. A token's layout: use, a and b as varints, text; in base64url.
const (
	pageToken    byte = 'p' // a: row, b: of which question, text: name
	rowToken     byte = 'r' // a: row, b: of which question
	resumeToken  byte = 'w' // a: epoch, b: sequence; the snapshot is over
	resumeUsers  byte = 'u' // the same, and the snapshot is at users, after the cursor text
	resumeGroups byte = 'g'
)

const maxToken = 4096

func (t token) String() string {
	b := make([]byte, 0, 1+2*binary.MaxVarintLen64+len(t.text))
	b = append(b, t.use)
	b = binary.AppendUvarint(b, t.a)
	b = binary.AppendUvarint(b, t.b)
	return base64.RawURLEncoding.EncodeToString(append(b, t.text...))
}

// parseToken reads what String wrote, and nothing else.
func parseToken(field, s string) (token, error) {
	if len(s) > maxToken {
		return token{}, bad(field, "is not a token of this server")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil && len(raw) > 2 {
		t := token{use: raw[0]}
		var n, m int
		t.a, n = binary.Uvarint(raw[1:])
		if n > 0 {
			t.b, m = binary.Uvarint(raw[1+n:])
		}
		if n > 0 && m > 0 {
			t.text = string(raw[1+n+m:])
			if t.String() == s {
				return t, nil
			}
		}
	}
	return token{}, bad(field, "is not a token of this server")
}

// question is a number for what a page token belongs to: a list with another
// filter does not go on where this one ended.
func question(parts ...string) uint64 {
	h := fnv.New32a()
	for _, p := range parts {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(p))))
		_, _ = h.Write([]byte(p))
	}
	return uint64(h.Sum32())
}

func markToken(m resolve.Mark, question uint64) string {
	return token{use: pageToken, a: uint64(m.Row), b: question, text: m.Name}.String()
}

func parseMark(s string, question uint64) (resolve.Mark, error) {
	if s == "" {
		return resolve.Mark{}, nil
	}
	t, err := parseToken("page_token", s)
	if err != nil {
		return resolve.Mark{}, err
	}
	if t.use != pageToken || t.b != question {
		return resolve.Mark{}, bad("page_token", "belongs to another question")
	}
	return resolve.Mark{Name: t.text, Row: identity.RowID(t.a)}, nil
}

func afterToken(row identity.RowID, question uint64) string {
	return token{use: rowToken, a: uint64(row), b: question}.String()
}

func parseAfter(s string, question uint64) (identity.RowID, error) {
	if s == "" {
		return 0, nil
	}
	t, err := parseToken("page_token", s)
	if err != nil {
		return 0, err
	}
	if t.use != rowToken || t.b != question || t.text != "" {
		return 0, bad("page_token", "belongs to another question")
	}
	return identity.RowID(t.a), nil
}

func positionToken(p resolve.Position) string {
	t := token{use: resumeToken, a: p.Log.Epoch, b: p.Log.Seq, text: p.Cursor}
	switch p.Kind {
	case identity.KindUser:
		t.use = resumeUsers
	case identity.KindGroup:
		t.use = resumeGroups
	}
	return t.String()
}

func parsePosition(s string) (*resolve.Position, error) {
	if s == "" {
		return nil, nil
	}
	t, err := parseToken("resume_token", s)
	if err != nil {
		return nil, err
	}
	p := &resolve.Position{Cursor: t.text}
	p.Log.Epoch, p.Log.Seq = t.a, t.b
	switch t.use {
	case resumeUsers:
		p.Kind = identity.KindUser
	case resumeGroups:
		p.Kind = identity.KindGroup
	case resumeToken:
		if t.text == "" {
			return p, nil
		}
		fallthrough
	default:
		return nil, bad("resume_token", "is not a token of this method")
	}
	return p, nil
}
