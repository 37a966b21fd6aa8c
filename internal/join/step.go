// SPDX-License-Identifier: Apache-2.0

package join

// State is how far a step got.
type State uint8

// The states, numbered as in the Step message of the admin API.
const (
	Running State = 1
	Done    State = 2
	Warning State = 3 // done, with something to know
	Failed  State = 4
)

// String returns the state as a lower-case word.
func (s State) String() string {
	switch s {
	case Running:
		return "running"
	case Done:
		return "done"
	case Warning:
		return "warning"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// The ids of the steps: stable, for programs. A step may be told twice, first
// Running and then with its outcome.
const (
	StepRequest    = "request"  // the question itself: domain, user, OU, tenant
	StepHostname   = "hostname" // the machine's name fits
	StepMember     = "member"   // not a member already
	StepDNS        = "dns"      // each DNS server answers
	StepSRV        = "srv"      // the domain's service records
	StepDC         = "dc"       // a domain controller of that domain answers
	StepPort       = "port-"    // followed by the number: port-53, port-88, port-135, port-389, port-445, port-464
	StepClock      = "clock"
	StepSignIn     = "sign-in" // the joining user's password
	StepDirectory  = "directory"
	StepContainer  = "container"  // where the computer account goes
	StepAccount    = "account"    // the computer account
	StepNames      = "names"      // its SPNs and DNS name
	StepKeytab     = "keytab"     // our keytab
	StepVerify     = "verify"     // the machine signs in with it
	StepRegister   = "dns-update" // the machine's name in the domain's DNS
	StepRemember   = "remember"   // the machine record
	StepHostKeys   = "host-keys"  // root's copy in /etc/krb5.keytab
	StepUnregister = "dns-remove"
	StepDelete     = "account-delete"
	StepDisable    = "account-disable"
	StepForget     = "forget"
	StepPassword   = "password" // which of the machine's passwords counts
	StepPrepare    = "prepare"  // the new one, before the domain has it
	StepChange     = "change"   // the domain is told
)

// Step is one line of a long task.
type Step struct {
	ID      string
	Title   string // what the step does, for people
	State   State
	Detail  string // what was found, or what failed and why
	Remedy  string // what to do next; empty: nothing
	Percent int    // 0 to 100, of the whole task; -1 where it cannot be told
}
