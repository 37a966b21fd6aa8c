// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNothingPrintsASecret(t *testing.T) {
	const word = "Passw0rd!Adm1n"
	s := FromString(word)
	type form struct {
		User     string
		Password Bytes
		Pointer  *Bytes
	}
	f := form{"alice", s, &s}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "password", s, "form", f)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "password", s, "form", f)
	js, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x %X %d %c %U %08b", s, s, s, s, s, s, s, s, s, s, s),
		fmt.Sprintf("%v %+v %#v", f, f, f), fmt.Errorf("login: %v", s).Error(), string(js), log.String(),
	} {
		for _, bad := range []string{word, fmt.Sprintf("%x", word), fmt.Sprintf("%X", word), fmt.Sprint([]byte(word))} {
			if strings.Contains(text, bad) {
				t.Errorf("secret printed in %q", text)
			}
		}
	}
}

func TestWipe(t *testing.T) {
	b := []byte("hunter2")
	s := Own(b)
	c := s.Clone()
	s.Wipe()
	if !bytes.Equal(b, make([]byte, 7)) {
		t.Errorf("memory after Wipe = %q, want zeros", b)
	}
	if !c.Equal(FromString("hunter2")) || c.Equal(s) || s.Len() != 7 {
		t.Error("a clone must survive the wiping of its origin")
	}
}
