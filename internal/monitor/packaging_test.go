// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

func packaged(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../packaging/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// settings are the lines KEY=VALUE of a unit; a key given twice has both values.
func settings(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			all[key] = strings.TrimSpace(all[key] + " " + value)
		}
	}
	return all
}

// A socket is the same whether systemd opens it or we do.
func TestUnitsOpenTheSocketsThatWeDo(t *testing.T) {
	const adminGID = 990
	service := settings(packaged(t, "systemd/latchkeyd.service"))
	units, err := os.ReadDir("../../packaging/systemd")
	if err != nil {
		t.Fatal(err)
	}
	standard := peer.Standard(config.RunDir, adminGID)
	if len(units) != len(standard)+1 {
		t.Errorf("%d units for %d sockets", len(units), len(standard))
	}
	for _, s := range standard {
		unit := fmt.Sprintf("latchkeyd-%s.socket", s.Name)
		got := settings(packaged(t, "systemd/"+unit))
		group := "root"
		if s.GID == adminGID {
			group = config.AdminGroup
		}
		for key, want := range map[string]string{"ListenStream": s.Path, "FileDescriptorName": string(s.Name), "SocketMode": fmt.Sprintf("%04o", s.Mode.Perm()),
			"DirectoryMode": fmt.Sprintf("%04o", s.DirMode.Perm()), "SocketUser": "root", "SocketGroup": group, "Service": "latchkeyd.service"} {
			if got[key] != want {
				t.Errorf("%s: %s=%q, want %q", unit, key, got[key], want)
			}
		}
		for _, key := range []string{"After", "Sockets", "Also"} {
			if !slices.Contains(strings.Fields(service[key]), unit) {
				t.Errorf("latchkeyd.service: %s=%s lacks %s", key, service[key], unit)
			}
		}
	}
	for key, want := range map[string]string{"Type": "notify", "Restart": "on-failure", "StartLimitIntervalSec": "0", "LimitCORE": "0", "NoNewPrivileges": "yes"} {
		if service[key] != want {
			t.Errorf("latchkeyd.service: %s=%q, want %q", key, service[key], want)
		}
	}
}

// What the package makes, and lets confined programs read, is what we use.
func TestPackagedNamesAreOurs(t *testing.T) {
	rules := 0
	for line := range strings.Lines(packaged(t, "apparmor/nameservice.d-latchkey")) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if rules++; line != config.SnapshotDir+"/identities r," {
			t.Errorf("AppArmor's rule %q", line)
		}
	}
	if rules != 1 {
		t.Errorf("%d rules of AppArmor's", rules)
	}
	var dirs []string
	for _, line := range regexp.MustCompile(`(?m)^d (\S+)`).FindAllStringSubmatch(packaged(t, "tmpfiles.conf"), -1) {
		dirs = append(dirs, line[1])
	}
	if want := []string{config.RunDir, config.StateDir, config.SnapshotDir}; !slices.Equal(dirs, want) {
		t.Errorf("tmpfiles.d makes %q, want %q", dirs, want)
	}
	var names []string
	for _, line := range regexp.MustCompile(`(?m)^[ug] (\S+)`).FindAllStringSubmatch(packaged(t, "sysusers.conf"), -1) {
		names = append(names, line[1])
	}
	if want := []string{config.WorkerUser, config.AdminGroup, config.LoginGroup, config.WinbindGroup}; !slices.Equal(names, want) {
		t.Errorf("sysusers.d makes %q, want %q", names, want)
	}
}
