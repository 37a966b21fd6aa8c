// SPDX-License-Identifier: Apache-2.0

// Package release says which latchkey this is. It is set by the build and
// knows nothing else.
package release

// Version is the version of the build: a git description, or the package's
// version.
var Version = "0.0.0-dev"
