// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the stories: the whole product, installed on a box of the
// lab as `make install` lays it out, against a real domain, real programs and
// real faults. It has tests only; they need root and `make root`.
package e2e
