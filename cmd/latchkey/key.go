// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// keysOf returns the keys that text may be meant as, the likeliest first.
func keysOf(text string, kind identity.Kind) ([]*latchkeyv1.Key, error) {
	k, err := identity.ParseKey(text, kind)
	if err != nil {
		return nil, err
	}
	name := &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: text}}
	switch k.Kind {
	case identity.ByUID:
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Uid{Uid: k.ID}}}, nil
	case identity.ByGID:
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Gid{Gid: k.ID}}}, nil
	case identity.BySID:
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Sid{Sid: k.SID.String()}}}, nil
	case identity.ByOID:
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Oid{Oid: k.GUID.String()}}, {Key: &latchkeyv1.Key_ObjectGuid{ObjectGuid: k.GUID.String()}}}, nil
	}
	if strings.HasPrefix(text, "users/") || strings.HasPrefix(text, "groups/") {
		return []*latchkeyv1.Key{{Key: &latchkeyv1.Key_Resource{Resource: text}}, name}, nil
	}
	return []*latchkeyv1.Key{name}, nil
}

// find asks for each key in turn until one is somebody's.
func find[T any](text string, kind identity.Kind, ask func(*latchkeyv1.Key) (T, error)) (found T, err error) {
	keys, err := keysOf(text, kind)
	if err != nil {
		return found, err
	}
	for _, k := range keys {
		if found, err = ask(k); !fault.Is(err, fault.NotFound) {
			break
		}
	}
	if fault.Is(err, fault.NotFound) {
		return found, &fault.Error{Kind: fault.NotFound, Op: fmt.Sprintf("no %s %q", kind, text),
			Remedy: fmt.Sprintf("try `latchkey search %s`; someone who is new in Entra ID appears when the managed domain has them, then within a minute", shellWord(text))}
	}
	return found, err
}

// shellWord puts a word into quotes where a shell would take it apart.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
