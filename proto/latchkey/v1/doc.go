// SPDX-License-Identifier: Apache-2.0

// Package latchkeyv1 is latchkey's API for programs of the same machine, generated
// from the .proto files beside it: IdentityService (who somebody is, for
// everybody), LoginService and SsoService (for programs that sign people in), and
// the services of the administrator. It holds messages and clients, and nothing of
// the daemon.
//
// The socket for everybody is unix:///run/latchkey/api.sock. The services' comments
// say who may call, the limits of a request and the errors; docs/apps.md has
// complete programs, and a service config that asks again while the daemon is
// restarted.
package latchkeyv1
