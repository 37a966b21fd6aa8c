// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// TestStrangersAtSSH has a real sshd refuse who exists and who does not, by both of
// its methods, in turns: nobody comes in. It prints the medians of the time that
// takes, and their ratio, which mean something by hand, on an idle machine:
//
//	LATCHKEY_TRIES=200 go test -tags lab -count=1 -v -run StrangersAtSSH ./internal/e2e
//
// pam_unix has nodelay, or its two seconds would hide everything.
func TestStrangersAtSSH(t *testing.T) {
	s := begin(t, lab.Population{Users: 50, Groups: 2})
	s.openShells()
	s.cli(0, "access", "allow", "sshd", "*")
	s.sh("sed -i 's/pam_unix.so/pam_unix.so nodelay/' /etc/pam.d/common-auth")
	tries, err := strconv.Atoi(cmp.Or(os.Getenv("LATCHKEY_TRIES"), "5"))
	s.try(err)
	refuse := func(name string, method func(answer func() (string, error)) ssh.AuthMethod, password string) time.Duration {
		t.Helper()
		conn, err := s.nas.Dial(s.ctx, "tcp", net.JoinHostPort(s.nas.IP(), "22"))
		s.try(err)
		defer conn.Close()
		var asked time.Time
		client := &ssh.ClientConfig{User: name, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			Auth: []ssh.AuthMethod{method(func() (string, error) { asked = time.Now(); return password, nil })}}
		if _, _, _, err := ssh.NewClientConn(conn, "nas1", client); err == nil {
			t.Fatalf("%s comes in", name)
		}
		return time.Since(asked)
	}
	for what, method := range map[string]func(func() (string, error)) ssh.AuthMethod{
		"password": func(answer func() (string, error)) ssh.AuthMethod { return ssh.PasswordCallback(answer) },
		"keyboard-interactive": func(answer func() (string, error)) ssh.AuthMethod {
			return ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) (answers []string, err error) {
				for range questions {
					text, _ := answer()
					answers = append(answers, text)
				}
				return answers, nil
			})
		},
	} {
		var wrong, unknown []time.Duration
		for i := range tries {
			guess := fmt.Sprint(what, " guess ", i)
			wrong = append(wrong, refuse(lab.UserName(i%50), method, guess))
			unknown = append(unknown, refuse(fmt.Sprintf("user%05d", 50000+i), method, guess))
		}
		slices.Sort(wrong)
		slices.Sort(unknown)
		w, u := wrong[len(wrong)/2], unknown[len(unknown)/2]
		t.Logf("%s: wrong password %s, unknown name %s, ratio %.2f", what, w.Round(10*time.Microsecond), u.Round(10*time.Microsecond), float64(u)/float64(w))
	}
}
