// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strconv"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/latency"
)

// exposition writes the text format of Prometheus, version 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats). Every name gets
// the prefix latchkey_.
type exposition struct{ b strings.Builder }

// head begins a metric; what it is worth has to follow at once.
func (e *exposition) head(name, kind, help string) {
	e.b.WriteString("# HELP latchkey_" + name + " " + help + "\n# TYPE latchkey_" + name + " " + kind + "\n")
}

// labelText escapes the value of a label: these three, and nothing else.
var labelText = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// value writes one sample; labels are names and values in turn.
func (e *exposition) value(name string, v float64, labels ...string) {
	e.b.WriteString("latchkey_" + name)
	for i := 0; i+1 < len(labels); i += 2 {
		open := ","
		if i == 0 {
			open = "{"
		}
		e.b.WriteString(open + labels[i] + `="` + labelText.Replace(strings.ToValidUTF8(labels[i+1], "?")) + `"`)
	}
	if len(labels) > 0 {
		e.b.WriteByte('}')
	}
	e.b.WriteString(" " + number(v) + "\n")
}

// gauge writes a metric that has one sample.
func (e *exposition) gauge(name, help string, v float64, labels ...string) {
	e.head(name, "gauge", help)
	e.value(name, v, labels...)
}

// histograms writes what a set counted; names are those of its labels.
func (e *exposition) histograms(name, help string, all []latency.Histogram, names ...string) {
	if len(all) == 0 {
		return
	}
	e.head(name, "histogram", help)
	for _, h := range all {
		var labels []string
		for i, n := range names {
			labels = append(labels, n, h.Labels[i])
		}
		last := len(latency.Bounds)
		for i, bound := range latency.Bounds {
			e.value(name+"_bucket", float64(h.Within[i]), append(labels, "le", number(bound.Seconds()))...)
		}
		e.value(name+"_bucket", float64(h.Within[last]), append(labels, "le", "+Inf")...)
		e.value(name+"_sum", h.Sum.Seconds(), labels...)
		e.value(name+"_count", float64(h.Within[last]), labels...)
	}
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
