// SPDX-License-Identifier: Apache-2.0

// Package tools pins the programs that build and check latchkey, apart from
// what latchkey itself is made of. It holds no code; see the tool lines of its
// go.mod. Nothing imports it.
package tools
