// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

func octets(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func message(id int64, op *ber.Packet) *ber.Packet {
	m := ber.NewSequence("")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	m.AppendChild(op)
	return m
}

func attributes(as []Attribute) *ber.Packet {
	list := ber.NewSequence("")
	for _, a := range as {
		one := ber.NewSequence("")
		one.AppendChild(octets(a.Name))
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		for _, v := range a.Values {
			set.AppendChild(octets(string(v)))
		}
		one.AppendChild(set)
		list.AppendChild(one)
	}
	return list
}

// result makes an LDAPResult under the application tag given.
func result(tag ber.Tag, code int64, text string) *ber.Packet {
	r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	r.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
	r.AppendChild(octets(""))
	r.AppendChild(octets(text))
	return r
}

// session is the server's side of one connection.
type session struct {
	d    *fakeDC
	conn net.Conn
	gss  *kerberos.Context
	in   []byte // opened, not yet parsed
	on   bool   // sealing
	step int
}

// Read gives the parser the bytes behind the frames.
func (s *session) Read(p []byte) (int, error) {
	for len(s.in) == 0 {
		if !s.on {
			n, err := s.conn.Read(p)
			s.d.mu.Lock()
			s.d.raw = append(s.d.raw, p[:n]...)
			s.d.mu.Unlock()
			return n, err
		}
		var head [4]byte
		if _, err := io.ReadFull(s.conn, head[:]); err != nil {
			return 0, err
		}
		frame := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(s.conn, frame); err != nil {
			return 0, err
		}
		s.d.mu.Lock()
		s.d.raw = append(s.d.raw, frame...)
		s.d.mu.Unlock()
		plain, sealed, err := s.gss.Open(frame)
		if err != nil || !sealed {
			return 0, errors.New("the client does not seal")
		}
		s.in = plain
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *session) write(p *ber.Packet) error {
	b := p.Bytes()
	if s.on && !s.d.clear {
		// In pieces: a frame need not hold whole messages.
		for len(b) > 0 {
			n := min(len(b), 700)
			token, err := s.gss.Seal(b[:n])
			if err != nil {
				return err
			}
			if _, err := s.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)); err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	}
	if s.on && s.d.clear {
		token, err := s.gss.Sign(b)
		if err != nil {
			return err
		}
		b = append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)
	}
	_, err := s.conn.Write(b)
	return err
}

func (d *fakeDC) serve(conn net.Conn) error {
	s := &session{d: d, conn: conn}
	for {
		p, err := ber.ReadPacket(s)
		if err != nil {
			return err
		}
		if d.silent {
			continue
		}
		id := p.Children[0].Value.(int64)
		op := p.Children[1]
		switch op.Tag {
		case ldap.ApplicationBindRequest:
			err = s.bind(id, op)
		case ldap.ApplicationSearchRequest:
			err = s.answer(id, p)
		case ldap.ApplicationUnbindRequest:
			return nil
		case ldap.ApplicationAddRequest:
			err = s.write(message(id, result(ldap.ApplicationAddResponse, 68, "00002071: UpdErr: exists")))
		case ldap.ApplicationModifyRequest:
			err = s.write(message(id, result(ldap.ApplicationModifyResponse, 50, "00002098: SecErr: no right")))
		case ldap.ApplicationDelRequest:
			err = s.write(message(id, result(ldap.ApplicationDelResponse, 0, "")))
		}
		if err != nil {
			return err
		}
	}
}

// bind is the acceptor of RFC 4752.
func (s *session) bind(id int64, op *ber.Packet) error {
	reply := func(code int64, token []byte) error {
		r := result(ldap.ApplicationBindResponse, code, "")
		r.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 7, string(token), ""))
		return s.write(message(id, r))
	}
	var token []byte
	if auth := op.Children[2]; len(auth.Children) > 1 {
		token = auth.Children[1].Data.Bytes()
	}
	if s.d.noProof {
		return reply(0, nil)
	}
	s.step++
	switch s.step {
	case 1:
		a, err := kerberos.NewAcceptor(s.d.kdc.Keytab(s.d.account)).Accept(token, nil)
		if err != nil {
			return reply(49, nil)
		}
		s.gss = a.Context
		return reply(14, a.Reply)
	case 2:
		layers := s.d.layers
		if layers == 0 {
			layers = layerNone | layerSign | layerSeal
		}
		offer, err := s.gss.Sign([]byte{layers, 0, 4, 0}) // 1024 bytes at a time
		if err != nil {
			return err
		}
		return reply(14, offer)
	}
	choice, _, err := s.gss.Open(token)
	if err != nil || len(choice) < 4 || choice[0] != layerSeal {
		return reply(49, nil)
	}
	err = reply(0, nil)
	s.on = true
	return err
}

func (s *session) answer(id int64, p *ber.Packet) error {
	op := p.Children[1]
	q := fakeQuery{base: op.Children[0].Value.(string), scope: int(op.Children[1].Value.(int64))}
	q.filter, _ = ldap.DecompileFilter(op.Children[6])
	for _, a := range op.Children[7].Children {
		q.attrs = append(q.attrs, a.Value.(string))
	}
	if len(p.Children) > 2 {
		for _, c := range p.Children[2].Children {
			q.oids = append(q.oids, c.Children[0].Value.(string))
			if ctl, err := ldap.DecodeControl(c); err == nil {
				if pg, ok := ctl.(*ldap.ControlPaging); ok {
					q.page, q.cookie = pg.PagingSize, string(pg.Cookie)
				}
			}
		}
	}
	entries, ok := s.d.search(q)
	if !ok {
		return nil
	}
	cookie := ""
	if q.page > 0 {
		from := len(q.cookie)
		to := min(from+int(q.page), len(entries))
		if to < len(entries) {
			cookie = strings.Repeat("x", to)
		}
		entries = entries[from:to]
	}
	for _, e := range entries {
		r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
		r.AppendChild(octets(e.DN))
		r.AppendChild(attributes(e.Attributes))
		if err := s.write(message(id, r)); err != nil {
			return err
		}
	}
	code := int64(0)
	if entries == nil && q.scope == int(Base) {
		code = ldap.LDAPResultNoSuchObject
	}
	m := message(id, result(ldap.ApplicationSearchResultDone, code, ""))
	if q.page > 0 {
		pg := ldap.NewControlPaging(0)
		pg.SetCookie([]byte(cookie))
		list := ber.Encode(ber.ClassContext, ber.TypeConstructed, 0, nil, "")
		list.AppendChild(pg.Encode())
		m.AppendChild(list)
	}
	return s.write(m)
}
