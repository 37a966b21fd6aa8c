// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// metricsTime bounds one question on metrics.sock.
const metricsTime = 5 * time.Second

// serveMetrics answers on metrics.sock, which is root's alone, what Prometheus
// and its kin read (text exposition format 0.0.4), until the listener closes.
func (d *Daemon) serveMetrics(ctx context.Context, ln *peer.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), metricsTime)
		defer cancel()
		text, err := d.metrics(ctx)
		if err != nil {
			d.log.Warn("the metrics cannot be told", "error", err)
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write([]byte(text))
	})
	s := &http.Server{Handler: mux, ReadTimeout: metricsTime, WriteTimeout: metricsTime, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return fault.Wrap(fault.Internal, "serve metrics.sock", err)
	}
	return nil
}

// metrics are what status and the audit know, as numbers.
func (d *Daemon) metrics(ctx context.Context) (string, error) {
	st, err := d.Status(ctx)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	metric := func(name, kind, help string, value float64, labels ...string) {
		if help != "" {
			fmt.Fprintf(&b, "# HELP latchkey_%s %s\n# TYPE latchkey_%s %s\n", name, help, name, kind)
		}
		fmt.Fprintf(&b, "latchkey_%s", name)
		for i := 0; i+1 < len(labels); i += 2 {
			open := ","
			if i == 0 {
				open = "{"
			}
			fmt.Fprintf(&b, "%s%s=%q", open, labels[i], strings.ToValidUTF8(labels[i+1], "?"))
		}
		if len(labels) > 0 {
			b.WriteByte('}')
		}
		b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
	}
	yes := func(on bool) float64 {
		if on {
			return 1
		}
		return 0
	}
	at := func(t *timestamppb.Timestamp) float64 {
		if t == nil {
			return 0
		}
		return float64(t.AsTime().Unix())
	}
	metric("info", "gauge", "The version that runs.", 1, "version", st.GetVersion(), "domain", st.GetDomain())
	metric("serving", "gauge", "1 while lookups are answered.", yes(st.GetHealth() == latchkeyv1.Status_HEALTH_SERVING || st.GetHealth() == latchkeyv1.Status_HEALTH_DEGRADED))
	metric("joined", "gauge", "1 while the machine is in a domain.", yes(st.GetDomain() != ""))
	metric("users", "gauge", "Users in the mirror.", float64(st.GetUsers()))
	metric("groups", "gauge", "Groups in the mirror.", float64(st.GetGroups()))
	metric("mirror_complete", "gauge", "1 once the whole domain has been read.", yes(st.GetMirrorComplete()))
	metric("held_deletions", "gauge", "Rows that the breaker holds back.", float64(st.GetHeldDeletions()))
	metric("last_sync_timestamp_seconds", "gauge", "When the mirror was last brought up to date.", at(st.GetLastSyncTime()))
	metric("last_sync_duration_seconds", "gauge", "How long that took.", st.GetLastSyncDuration().AsDuration().Seconds())
	metric("domain_controller_reachable", "gauge", "1 while a domain controller answers.", yes(st.GetDomainControllerReachable()))
	metric("clock_skew_seconds", "gauge", "The domain controller's clock minus ours.", st.GetClockSkew().AsDuration().Seconds())
	metric("machine_key_version", "gauge", "Version of the machine's key.", float64(st.GetKeyVersion()))
	metric("machine_key_timestamp_seconds", "gauge", "When the machine's key was made.", at(st.GetKeyTime()))
	metric("snapshot_timestamp_seconds", "gauge", "When names were last published.", at(st.GetSnapshotTime()))
	metric("worker_restarts_total", "counter", "Workers that ended and were replaced.", float64(st.GetWorkerRestarts()))
	metric("problems", "gauge", "Things that need attention; latchkey status names them.", float64(len(st.GetProblems())))
	if d.audit != nil {
		help := "Attempts since the worker was started, by what, outcome and service."
		for _, c := range d.audit.Counts() {
			metric("attempts_total", "counter", help, float64(c.N), "action", string(c.Action), "outcome", string(c.Outcome), "service", c.Service)
			help = ""
		}
	}
	return b.String(), nil
}
