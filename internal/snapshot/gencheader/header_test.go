// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestHeadersAreCurrent(t *testing.T) {
	for name, want := range headers() {
		got, err := os.ReadFile(filepath.Join("../../../nss", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("nss/%s is not current: run go generate ./internal/snapshot", name)
		}
	}
}

func TestSnake(t *testing.T) {
	for in, want := range map[string]string{"UID": "uid", "GIDCount": "gid_count", "IDs": "ids", "IDSlots": "id_slots", "BodySum": "body_sum", "Reserved2": "reserved2", "UserRow": "user_row"} {
		if got := snake(in); got != want {
			t.Errorf("snake(%q) = %q, want %q", in, got, want)
		}
	}
}
