// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// The web's port is changed under load, also to another address of the same port:
// no request at any door is lost, and the worker is the same.
func TestWebListenIsChangedUnderLoad(t *testing.T) {
	s := begin(t, lab.Population{Users: 3, Groups: 1})
	s.try(s.nas.MustJoin(s.ctx, s.domain))
	s.cli(0, "access", "allow", "sshd", "user00001")
	worker := s.worker()
	const load = `cd /tmp && rm -f stop failed && : >count
each() { while [ ! -e stop ]; do if "$@" >/dev/null 2>error.$1; then echo "$1 $2" >>count; else echo "$*: $(cat error.$1)" >>failed; fi; done; }
password() { printf '%s\n' '` + "PASSWORD" + `' | latchkey login user00001 --service sshd --password-stdin; }
auth() { [ "$(curl -s --max-time 10 --unix-socket /run/latchkey/auth.sock -o /dev/null -w '%{http_code}' -H 'X-Original-URL: https://nas/' http://x/auth/check)" != 000 ]; }
each latchkey user get user00001 & each password & each auth &
wait`
	done := make(chan *lab.Result, 1)
	go func() {
		r, _ := s.nas.Run(s.ctx, "sh", "-c", strings.Replace(load, "PASSWORD", lab.UserPassword(1), 1))
		done <- r
	}()
	s.waitFor("every door answers", func() bool {
		r, err := s.nas.Run(s.ctx, "sh", "-c", "for d in latchkey password auth; do grep -q $d /tmp/count || exit 1; done")
		return err == nil && r.Ok()
	})
	for _, listen := range []string{"127.0.0.1:8443", ":8443", "127.0.0.1:9443", "[::]:8443", "", ":8443"} {
		s.cli(0, "config", "set", "web.listen", listen)
		s.waitFor("the web on "+listen, func() bool {
			address := strings.NewReplacer("[::]:", "127.0.0.1:").Replace(listen)
			if strings.HasPrefix(address, ":") {
				address = "127.0.0.1" + address
			}
			r, err := s.nas.Run(s.ctx, "curl", "-sk", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", "https://"+address+"/")
			return listen == "" || err == nil && r.Stdout == "303"
		})
	}
	// A port that is taken: the web stays, and the setting is what it was.
	s.sh(`nohup python3 -c 'import socket,time; l=socket.socket(); l.bind(("127.0.0.1",7443)); l.listen(); open("/tmp/taken","w"); time.sleep(300)' >/dev/null 2>&1 & while [ ! -e /tmp/taken ]; do sleep 0.05; done`)
	if r := s.cli(4, "config", "set", "web.listen", "127.0.0.1:7443"); !strings.Contains(r.Stderr, "address already in use") {
		t.Errorf("a port that is taken: %s", r)
	}
	if got := s.sh("latchkey config show web.listen | tail -1; curl -sk --max-time 5 -o /dev/null -w '%{http_code}' https://127.0.0.1:8443/"); !strings.Contains(got, `":8443"`) || !strings.HasSuffix(got, "303") {
		t.Errorf("after a port that was taken: %s", got)
	}
	s.sh("touch /tmp/stop")
	<-done
	if failed := s.sh("cat /tmp/failed 2>/dev/null; true"); failed != "" {
		t.Errorf("requests were lost:\n%s", failed)
	}
	if now := s.worker(); now != worker {
		t.Errorf("the worker was replaced: %s, before %s", now, worker)
	}
	t.Logf("answered: %s", s.sh("sort /tmp/count | uniq -c | xargs"))
}
