// SPDX-License-Identifier: Apache-2.0

package join

import "github.com/latchkey-nas/latchkey/internal/secret"

// People says where the passwords of the tenant come from. The numbers are
// those of the admin API.
type People uint8

// The kinds of tenant.
const (
	PeopleUnknown   People = 0
	PeopleCloudOnly People = 1
	PeopleHybrid    People = 2
)

// Request asks for a join. Every text comes as the administrator typed it;
// Check and Join refuse what cannot be meant with fault.Malformed.
type Request struct {
	Domain   string       // DNS name of the managed domain
	User     string       // account name, DOMAIN\name, or UPN of any suffix
	Password secret.Bytes // wiped by Join

	DomainControllers []string // host names or addresses; none: found by DNS
	DNSServers        []string // addresses, with a port where it is not 53; none: the machine's own
	OU                string   // DN; empty: OU=AADDC Computers, or where the domain puts computers
	Hostname          string   // short name, at most 15 characters; empty: the machine's own
	TenantID          string   // Entra tenant id; may be empty
	People            People
	NoDNSUpdate       bool
}

// LeaveRequest asks for the end of the membership.
type LeaveRequest struct {
	User        string       // who may delete the computer account; may be empty
	Password    secret.Bytes // wiped by Leave
	KeepAccount bool
}
