// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"net/http"
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

// metrics are what status, the audit and the clocks know, as numbers. No label
// has the name of a person.
func (d *Daemon) metrics(ctx context.Context) (string, error) {
	st, err := d.Status(ctx)
	if err != nil {
		return "", err
	}
	var e exposition
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
	e.gauge("info", "The version that runs, and the domain.", 1, "version", st.GetVersion(), "domain", st.GetDomain())
	e.gauge("serving", "1 while lookups are answered.", yes(st.GetHealth() == latchkeyv1.Status_HEALTH_SERVING || st.GetHealth() == latchkeyv1.Status_HEALTH_DEGRADED))
	e.gauge("joined", "1 while the machine is in a domain.", yes(st.GetDomain() != ""))
	e.gauge("users", "Users in the mirror.", float64(st.GetUsers()))
	e.gauge("groups", "Groups in the mirror.", float64(st.GetGroups()))
	e.gauge("mirror_complete", "1 once the whole domain has been read.", yes(st.GetMirrorComplete()))
	e.gauge("held_deletions", "Rows that the breaker holds back.", float64(st.GetHeldDeletions()))
	e.gauge("last_sync_timestamp_seconds", "When the mirror was last brought up to date.", at(st.GetLastSyncTime()))
	e.gauge("last_sync_duration_seconds", "How long that took.", st.GetLastSyncDuration().AsDuration().Seconds())
	e.gauge("domain_controller_reachable", "1 while a domain controller answers.", yes(st.GetDomainControllerReachable()))
	e.gauge("clock_skew_seconds", "The domain controller's clock minus ours.", st.GetClockSkew().AsDuration().Seconds())
	e.gauge("machine_key_version", "Version of the machine's key.", float64(st.GetKeyVersion()))
	e.gauge("machine_key_timestamp_seconds", "When the machine's key was made.", at(st.GetKeyTime()))
	e.gauge("snapshot_timestamp_seconds", "When names were last published.", at(st.GetSnapshotTime()))
	e.gauge("problems", "Things that need attention; latchkey status names them.", float64(len(st.GetProblems())))
	e.head("worker_restarts_total", "counter", "Workers that ended and were replaced.")
	e.value("worker_restarts_total", float64(st.GetWorkerRestarts()))
	if d.audit != nil {
		if counts := d.audit.Counts(); len(counts) > 0 {
			e.head("attempts_total", "counter", "Attempts since the worker was started, by what, outcome and service.")
			for _, c := range counts {
				e.value("attempts_total", float64(c.N), "action", string(c.Action), "outcome", string(c.Outcome), "service", c.Service)
			}
		}
		e.histograms("sign_in_duration_seconds", "How long sign-ins took, from the question to the answer.", d.audit.SignIns(), "door", "outcome")
	}
	e.histograms("directory_pass_duration_seconds", "How long the mirror's passes over the directory took.", d.took.passes.Histograms(), "kind", "outcome")
	e.histograms("domain_controller_round_trip_seconds", "How long a domain controller took to answer one question.", d.took.trips.Histograms(), "protocol")
	e.histograms("grpc_call_duration_seconds", "How long unary gRPC calls took.", d.took.calls.Histograms(), "method", "code")
	e.histograms("winbind_request_duration_seconds", "How long requests on winbind's pipes took.", d.took.pipes.Histograms(), "command")
	return e.b.String(), nil
}
