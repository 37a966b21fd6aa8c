// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
)

// Limits of the public keys of one object.
const (
	maxSSHKeys = 32
	maxSSHKey  = 4096 // bytes of a line; an RSA key of 16,384 bits has 2,800
)

// sshTypes are the types of keys that are taken (sshd(8), AUTHORIZED_KEYS FILE
// FORMAT). ssh-dss is not: sshd refuses it.
var sshTypes = []string{"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
	"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"}

// SSHKey makes a line of authorized_keys of what somebody wrote into the
// directory: "type base64", nothing else. Options in front, as a forced command
// or an environment, and a comment behind are left out; a prefix "SSHKey:" or
// "SSH:", as altSecurityIdentities likes one, too. false: it is no public key.
func SSHKey(value string) (string, bool) {
	if len(value) > maxSSHKey || strings.ContainsAny(value, "\r\n\x00") {
		return "", false
	}
	for _, prefix := range []string{"SSHKey:", "SSH:"} {
		if len(value) > len(prefix) && strings.EqualFold(value[:len(prefix)], prefix) {
			value = value[len(prefix):]
		}
	}
	words := strings.Fields(value)
	for i, kind := range words {
		if !slices.Contains(sshTypes, kind) {
			continue
		}
		if i+1 == len(words) {
			return "", false
		}
		blob, err := base64.StdEncoding.DecodeString(words[i+1])
		// The first string of the blob is the type again (RFC 4253 6.6).
		if err != nil || len(blob) <= 4+len(kind) || int(binary.BigEndian.Uint32(blob)) != len(kind) || string(blob[4:4+len(kind)]) != kind {
			return "", false
		}
		return kind + " " + words[i+1], true
	}
	return "", false
}

// sshKeys reads the attribute that holds the keys. Values that are none are left
// out: altSecurityIdentities holds the names of certificates as well.
func sshKeys(e Entry, attribute string) []string {
	if attribute == "" {
		return nil
	}
	var keys []string
	for _, v := range e.Values(attribute) {
		if line, ok := SSHKey(string(v)); ok && !slices.Contains(keys, line) && len(keys) < maxSSHKeys {
			keys = append(keys, line)
		}
	}
	slices.Sort(keys)
	return keys
}
