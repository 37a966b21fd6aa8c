// SPDX-License-Identifier: Apache-2.0

package smbconf

import (
	"slices"
	"testing"
)

func TestBareNames(t *testing.T) {
	got := BareNames(`[global]
	realm = root
	invalid users =
[a]
	valid users = alice, @"design team" +"DOM\x" "DOM\y z" @staff %S bob@contoso.test
	admin users = root
[b]
	force group = +domain users
	force user = "games"
	write list = "Unix User\root" &net, alice
`)
	if want := []string{"alice", "design team", "domain users", "games", "net", "root", "staff"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
