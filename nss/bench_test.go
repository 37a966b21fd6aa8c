// SPDX-License-Identifier: Apache-2.0

package nss

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nssbench compiles the benchmark, and a test build of the module as a library,
// and returns how to run it on a snapshot.
func nssbench(t testing.TB, snapshot string) func(args ...string) map[string]any {
	t.Helper()
	dir := t.TempDir()
	bench, module := filepath.Join(dir, "nssbench"), filepath.Join(dir, "libnss_latchkey.so.2")
	run(t, nil, "gcc", "-std=gnu11", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o", bench, "bench/nssbench.c", "-ldl", "-lpthread")
	run(t, nil, "sh", "-c", "gcc -std=gnu11 -O2 -fPIC -shared -D_GNU_SOURCE -DLATCHKEY_TEST -o "+module+" *.c")
	return func(args ...string) map[string]any {
		t.Helper()
		out, err := exec.Command(bench, append([]string{"--module", module, "--snapshot", snapshot}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("nssbench %q: %v\n%s", args, err, out)
		}
		var said map[string]any
		if err := json.Unmarshal(out, &said); err != nil {
			t.Fatalf("nssbench %q says %s: %v", args, out, err)
		}
		return said
	}
}

// The benchmark program itself gives right answers, and counts wrong ones.
func TestBenchmarkProgram(t *testing.T) {
	w := makeWorld(30, 8, 50)
	path := filepath.Join(t.TempDir(), "identities")
	write(t, path, w.image(t, options(1)))
	ask := nssbench(t, path)
	few := []string{"--passes", "2", "--calls", "3"}
	for _, tc := range []struct {
		args []string
		size int
	}{
		{[]string{"passwd-name", "user00001", "user00002"}, 0},
		{[]string{"passwd-uid", fmt.Sprint(w.users[3].UID)}, 0},
		{[]string{"group-name", "group0001", "group0002"}, 0},
		{[]string{"group-gid", fmt.Sprint(w.groups[2].GID)}, 0},
		{[]string{"initgroups", "user00001"}, len(w.gids(&w.users[1]))},
		{[]string{"passwd-all"}, 27},
		{[]string{"group-all"}, 7},
		{[]string{"--absent", "passwd-name", "nobody-here"}, 0},
		{[]string{"--threads", "2", "--seconds", "0.05", "passwd-name", "user00001"}, -1},
		{[]string{"--processes", "2", "--seconds", "0.05", "passwd-name", "user00001"}, -1},
	} {
		said := ask(append(few, tc.args...)...)
		if said["wrong"] != 0.0 || tc.size >= 0 && said["size"] != float64(tc.size) {
			t.Errorf("%q: %v, want %d", tc.args, said, tc.size)
		}
		if tc.size < 0 && !(said["per_second"].(float64) > 0) {
			t.Errorf("%q: %v", tc.args, said)
		}
	}
}

// BenchmarkModule runs the benchmark program on 5,000 users and 500 groups:
// nanoseconds of one call straight into the module.
func BenchmarkModule(b *testing.B) {
	w := makeWorld(5000, 500, 51)
	for i := range 207 {
		w.users[1].Groups = append(w.users[1].Groups, w.groups[i].GID)
	}
	path := filepath.Join(b.TempDir(), "identities")
	write(b, path, w.image(b, options(1)))
	ask := nssbench(b, path)
	var names, uids []string
	for i := range w.users {
		if !strings.ContainsAny(w.users[i].Name, " ") {
			names, uids = append(names, w.users[i].Name), append(uids, fmt.Sprint(w.users[i].UID))
		}
	}
	for _, c := range []struct {
		name string
		args []string
	}{
		{"passwd by name", append([]string{"passwd-name"}, names...)},
		{"passwd by uid", append([]string{"passwd-uid"}, uids...)},
		{"unknown name", []string{"--absent", "passwd-name", "nobody-here"}},
		{"initgroups of 208", []string{"initgroups", "user00001"}},
		{"group of 5000", []string{"group-gid", fmt.Sprint(w.groups[0].GID)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(ask(c.args...)["mean_min_ns"].(float64), "ns/call")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
