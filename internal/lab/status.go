// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"path/filepath"
	"slices"
	"time"
)

// A Report is what is to be known of a lab that runs.
type Report struct {
	Name     string          `json:"name"`
	Created  time.Time       `json:"created"`
	Detached bool            `json:"detached"`
	Owner    int             `json:"owner"` // the process that started it
	Base     string          `json:"base"`
	Domain   *DomainOptions  `json:"domain,omitempty"`
	Machines []MachineReport `json:"machines"`
}

// A MachineReport is one machine of a Report.
type MachineReport struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // switch, dc, box
	Hostname string `json:"hostname"`
	IP       string `json:"ip"`
	PID      int    `json:"pid"` // of its init
}

// Status reports on every lab that runs, those of tests too.
func Status() ([]Report, error) {
	names, err := List()
	if err != nil {
		return nil, err
	}
	reports := []Report{}
	for _, name := range names {
		l := &Lab{Name: name, dir: filepath.Join(RunDir(), name)}
		st, err := l.load()
		if err != nil {
			continue // it is just being made, or just went
		}
		report := Report{Name: name, Created: st.Created, Detached: st.Detached, Owner: st.Owner, Base: st.Base, Domain: st.Domain}
		for _, info := range st.Machines {
			ip := info.IP
			if info.Kind == "switch" {
				ip = GatewayIP
			}
			report.Machines = append(report.Machines, MachineReport{Name: info.Name, Kind: info.Kind, Hostname: info.Hostname, IP: ip, PID: info.PID})
		}
		slices.SortFunc(report.Machines, func(a, b MachineReport) int { return cmp.Compare(a.Kind+a.Name, b.Kind+b.Name) })
		reports = append(reports, report)
	}
	return reports, nil
}
