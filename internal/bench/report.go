// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report prints Markdown tables.
type report struct{ out io.Writer }

func newReport(out ...io.Writer) *report { return &report{io.MultiWriter(out...)} }

func (r *report) conditions(users, groups int) {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	fmt.Fprintf(r.out, "Measured on %s: %d cores, Linux %s, %s. Domain of %d users and %d groups; its DC, the NAS and the clients share the cores.\n",
		time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version(), users, groups)
}

// table prints a heading and rows; the first row is the header.
func (r *report) table(title string, rows ...[]string) {
	fmt.Fprintf(r.out, "\n### %s\n\n", title)
	for i, row := range rows {
		fmt.Fprintf(r.out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(r.out, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
}

// A sample is several readings of one figure.
type sample []time.Duration

func (s sample) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (s sample) median() time.Duration { return s.quantile(0.5) }

// String prints the median and the range.
func (s sample) String() string {
	return fmt.Sprintf("%s [%s..%s]", short(s.median()), short(s.quantile(0)), short(s.quantile(1)))
}

// short prints a duration with three digits that mean something.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g us", float64(d)/1e3)
}

func ratio(a, b time.Duration) string { return fmt.Sprintf("%.2f", float64(a)/float64(b)) }

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
