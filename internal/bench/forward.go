// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// plainServer is the argument that makes this program a peer of forward-auth:
// net/http on a socket, which answers 200 and does nothing else.
const plainServer = "serve-plain"

func servePlain(socket string) error {
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o666); err != nil { // nginx is another user
		return err
	}
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
}

// Everybody who answers is asked by the same nginx, in the same words; latchkey
// comes first.
var answerers = []struct{ name, socket, what string }{
	{"latchkey", "/run/latchkey/auth.sock", "latchkey"},
	{"nginx", "/run/bench-nginx.sock", "another nginx, `return 200`"},
	{"least", "/run/bench-least.sock", "a loop in C that looks at nothing"},
	{"nethttp", "/run/bench-plain.sock", "a bare net/http server"},
}

const (
	forwardBench = "/usr/local/bin/forwardbench"
	proxyPort    = "8088"
)

// proxyTop is the nginx that is measured, proxyGuard a place of it that one of
// answerers guards: as packaging/web/nginx-latchkey.conf has it.
const (
	proxyTop = `worker_processes 1;
pid /run/nginx-bench.pid;
events { worker_connections 1024; }
http {
  access_log off; error_log /var/log/nginx-bench.log;
  keepalive_requests 100000000;
%s
  server {
    listen 127.0.0.1:` + proxyPort + `;
    root /srv/bench;
%s
  }
}
`
	proxyUpstream = "  upstream %[1]s { server unix:%[2]s; keepalive 64; keepalive_requests 100000000; }\n"
	proxyGuard    = `
    location /%[1]s/ {
      auth_request /check/%[1]s;
      auth_request_set $user_%[1]s $upstream_http_x_latchkey_user;
      auth_request_set $uid_%[1]s $upstream_http_x_latchkey_uid;
      auth_request_set $groups_%[1]s $upstream_http_x_latchkey_groups;
      auth_request_set $signin_%[1]s $upstream_http_x_latchkey_sign_in;
    }
    location = /check/%[1]s {
      internal;
      proxy_pass http://%[1]s/auth/check;
      proxy_http_version 1.1;
      proxy_pass_request_headers off;
      proxy_pass_request_body off;
      proxy_set_header Connection "";
      proxy_set_header Content-Length "";
      proxy_set_header Cookie $http_cookie;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Uri $request_uri;
      proxy_buffer_size 32k; proxy_buffers 4 32k;
    }
`
	otherNginx = `worker_processes 1;
pid /run/nginx-other.pid;
events { worker_connections 1024; }
http {
  access_log off; error_log /var/log/nginx-other.log; server_tokens off;
  keepalive_requests 100000000;
  server {
    listen unix:/run/bench-nginx.sock;
    location / {
      add_header X-Latchkey-User user00001; add_header X-Latchkey-Uid 1000; add_header X-Latchkey-Groups domain%20users;
      add_header Cache-Control no-store;
      return 200;
    }
  }
}
`
)

// openAnswerers starts nginx and everybody whom it asks.
func (w *webBox) openAnswerers(ctx context.Context) error {
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-o", "build/forwardbench", "internal/bench/forward/forwardbench.c").CombinedOutput(); err != nil {
		return fmt.Errorf("compile forwardbench: %w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	const plain = "/usr/local/bin/latchkey-bench"
	for from, to := range map[string]string{"build/forwardbench": forwardBench, self: plain} {
		if err := w.nas.CopyIn(ctx, from, to, 0o755); err != nil {
			return err
		}
	}
	var upstreams, guards strings.Builder
	files := map[string]string{"/etc/nginx-other.conf": otherNginx, "/srv/bench/static/file": "hello\n"}
	for _, a := range answerers {
		fmt.Fprintf(&upstreams, proxyUpstream, a.name, a.socket)
		fmt.Fprintf(&guards, proxyGuard, a.name)
		files["/srv/bench/"+a.name+"/file"] = "hello\n"
	}
	files["/etc/nginx-bench.conf"] = fmt.Sprintf(proxyTop, upstreams.String(), guards.String())
	for name, text := range files {
		if _, err := w.nas.Output(ctx, "mkdir", "-p", filepath.Dir(name)); err != nil {
			return err
		}
		if err := w.nas.WriteFile(ctx, name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	// Each in a session of its own, as daemons are; see serve.
	for _, line := range [][]string{{forwardBench, "answer", "/run/bench-least.sock"}, {plain, plainServer, "/run/bench-plain.sock"}} {
		if _, err := w.nas.Command(append([]string{"setsid"}, line...)...).Start(ctx); err != nil {
			return err
		}
	}
	if _, err := w.nas.Output(ctx, "sh", "-c", "nginx -c /etc/nginx-other.conf && chmod 666 /run/bench-nginx.sock && nginx -c /etc/nginx-bench.conf"); err != nil {
		return err
	}
	_, err = w.nas.Output(ctx, "sh", "-c", "for i in $(seq 100); do [ -S /run/bench-least.sock -a -S /run/bench-plain.sock ] && exit; sleep 0.05; done; exit 1")
	return err
}

// How long each is asked in one turn, and how often. Short turns, one after the
// other, so that the machine's moods fall on all; what counts is the ratio within
// a turn.
const (
	askTime  = 300 * time.Millisecond
	askTurns = 15
)

// asked is one place and what it took, turn by turn.
type asked struct {
	what, where, path string
	p50, p99          sample
	rate              []float64
}

// ask asks all in turn. core is where the client runs; empty: anywhere.
func (w *webBox) ask(ctx context.Context, all []*asked, connections int, core, cookie string) error {
	for range askTurns {
		for _, a := range all {
			line := []string{"setsid", "-w"}
			if core != "" {
				line = append(line, "taskset", "-c", core)
			}
			out, err := w.nas.Output(ctx, append(line, forwardBench, "load", a.where, a.path, strconv.Itoa(connections), strconv.Itoa(int(askTime.Milliseconds())), w.host, cookie)...)
			if err != nil {
				return fmt.Errorf("%s: %w", a.what, err)
			}
			var got struct {
				P50  float64 `json:"p50_ns"`
				P99  float64 `json:"p99_ns"`
				Rate float64 `json:"per_second"`
			}
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				return err
			}
			a.p50, a.p99, a.rate = append(a.p50, time.Duration(got.P50)), append(a.p99, time.Duration(got.P99)), append(a.rate, got.Rate)
		}
	}
	return nil
}

// askedTable shows each beside the one at base.
func askedTable(r *report, title string, all []*asked, base int, baseName string) {
	rows := [][]string{{"", "p50 / p99", "per second", "p50 beside " + baseName + ", median [quarters]", "per second, " + baseName + " beside it"}}
	for _, a := range all {
		var p50, rate []float64
		for turn := range a.p50 {
			p50 = append(p50, float64(a.p50[turn])/float64(all[base].p50[turn]))
			rate = append(rate, all[base].rate[turn]/a.rate[turn])
		}
		rows = append(rows, []string{a.what, short(a.p50.median()) + " / " + short(a.p99.median()), fmt.Sprintf("%.0f", quarter(a.rate, 2)), spread(p50), spread(rate)})
	}
	r.table(title, rows...)
}

// quarter is the value that n quarters of all are below.
func quarter(values []float64, n int) float64 {
	return slices.Sorted(slices.Values(values))[len(values)*n/4]
}

func spread(values []float64) string {
	return fmt.Sprintf("%.2f [%.2f..%.2f]", quarter(values, 2), quarter(values, 1), quarter(values, 3))
}

// forward measures the question of a proxy, alone and through nginx, beside the
// least that another process can cost.
func (w *webBox) forward(ctx context.Context, r *report, cookie string) error {
	if err := w.openAnswerers(ctx); err != nil {
		return err
	}
	here := &contestant{Box: w.nas.Box, daemons: []string{"latchkeyd", "nginx", "forwardbench", "latchkey-bench"}}
	for _, connections := range []int{1, 64} {
		many := fmt.Sprintf("%d connection", connections)
		if connections > 1 {
			many += "s"
		}
		var direct []*asked
		for _, a := range answerers {
			direct = append(direct, &asked{what: a.what, where: a.socket, path: "/auth/check"})
		}
		if err := w.ask(ctx, direct, connections, "", cookie); err != nil {
			return err
		}
		askedTable(r, "/auth/check, "+many, direct, 2, "C")
		for _, core := range []string{"", "0"} {
			where, pin := "", "0,1"
			if core != "" {
				where, pin = ", all on one core", core
			}
			if err := errors.Join(here.pin(ctx, pin), w.newWorker(ctx)); err != nil {
				return err
			}
			guarded := []*asked{{what: "the same nginx's static file", where: proxyPort, path: "/static/file"}}
			for _, a := range answerers {
				guarded = append(guarded, &asked{what: "guarded by " + a.what, where: proxyPort, path: "/" + a.name + "/file"})
			}
			if err := w.ask(ctx, guarded, connections, core, cookie); err != nil {
				return err
			}
			askedTable(r, "A file behind nginx, "+many+where, guarded, 0, "the static file")
		}
		if err := errors.Join(here.pin(ctx, "0,1"), w.newWorker(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// newWorker has the worker started anew: how many cores it may run on is what a
// Go program looks at when it starts.
func (w *webBox) newWorker(ctx context.Context) error {
	processes, err := w.nas.Processes(ctx)
	if err != nil {
		return err
	}
	for _, p := range processes {
		if p.Name == "latchkeyd" && len(p.Args) > 1 && p.Args[1] == "worker" {
			if _, err := w.nas.Output(ctx, "kill", "-KILL", strconv.Itoa(p.PID)); err != nil {
				return err
			}
		}
	}
	return w.nas.WaitAnswer(ctx)
}
