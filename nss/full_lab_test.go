// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nss

// `make test`: 500 snapshots in two runs.
func init() {
	if !nightly() {
		replacements, mutateSeconds = 250, 6
	}
}
