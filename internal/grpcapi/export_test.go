// SPDX-License-Identifier: Apache-2.0

package grpcapi

// ToUser is what GetUser answers with.
var ToUser = toUser
