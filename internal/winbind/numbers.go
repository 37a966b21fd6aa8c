// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"strconv"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// sidsToXIDs: a line that is no SID, or nobody's, is an empty line; smbd sends
// whole tokens, and one SID that means nothing here must not cost the others.
func (c *client) sidsToXIDs(req *wire.Request, resp *wire.Response) error {
	return c.translate(req, resp, "", func(unknown []string) ([]string, error) {
		sids := make([]identity.SID, len(unknown))
		for i, s := range unknown {
			sids[i], _ = identity.ParseSID(s)
		}
		ids, err := c.s.cfg.IDs.IDsOfSIDs(c.s.life, sids)
		if err != nil {
			return nil, err
		}
		words := make([]string, len(unknown))
		for i, id := range ids {
			switch id.Kind {
			case identity.KindUser:
				words[i] = "U" + strconv.FormatUint(uint64(id.Number), 10)
			case identity.KindGroup:
				words[i] = "G" + strconv.FormatUint(uint64(id.Number), 10)
			}
		}
		return words, nil
	})
}

// xidsToSIDs: a number that is nobody's is "-".
func (c *client) xidsToSIDs(req *wire.Request, resp *wire.Response) error {
	return c.translate(req, resp, "-", func(unknown []string) ([]string, error) {
		ids := make([]ID, len(unknown))
		for i, s := range unknown {
			ids[i] = parseXID(s)
		}
		sids, err := c.s.cfg.IDs.SIDsOfIDs(c.s.life, ids)
		if err != nil {
			return nil, err
		}
		words := make([]string, len(unknown))
		for i, sid := range sids {
			words[i] = sid.String()
		}
		return words, nil
	})
}

func parseXID(s string) ID {
	if len(s) < 2 {
		return ID{}
	}
	n, err := strconv.ParseUint(s[1:], 10, 32)
	switch {
	case err != nil:
		return ID{}
	case s[0] == 'U':
		return ID{identity.KindUser, uint32(n)}
	case s[0] == 'G':
		return ID{identity.KindGroup, uint32(n)}
	}
	return ID{}
}

// translate answers line by line, what is unknown by none.
func (c *client) translate(req *wire.Request, resp *wire.Response, none string, unknown func([]string) ([]string, error)) error {
	var all [maxFew][]byte
	var got [maxFew]string
	words, err := c.s.words.find(lines(req.Extra, all[:0]), got[:0], unknown)
	if err != nil {
		return err
	}
	resp.Grow(func(b []byte) []byte {
		for _, w := range words {
			if w == "" {
				w = none
			}
			b = append(append(b, w...), '\n')
		}
		return append(b, 0)
	})
	resp.OK()
	return nil
}
