// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

var mustExport = []string{"pam_sm_acct_mgmt", "pam_sm_authenticate", "pam_sm_chauthtok", "pam_sm_close_session", "pam_sm_open_session", "pam_sm_setcred"}

// What the module has no business to call: processes, threads, other sockets,
// names by NSS where it must read the file, the environment, the end of its host.
var mustNotImport = []string{"fork", "vfork", "execve", "execv", "system", "popen", "posix_spawn", "pthread_create", "exit", "_exit", "abort", "getenv", "secure_getenv",
	"setenv", "getpwnam", "getpwnam_r", "getaddrinfo", "signal", "sigaction", "printf", "puts", "dlopen", "umask", "chdir", "setuid", "seteuid", "setresuid"}

// The module as `make build` makes it.
func TestShippedModule(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pam_latchkey.so")
	if out, err := exec.Command("make", "-s", "-f", "build.mk", "PAM_OUT="+path).CombinedOutput(); err != nil {
		t.Fatalf("make: %v\n%s", err, out)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	var exports []string
	for _, s := range symbols {
		switch {
		case s.Section != elf.SHN_UNDEF:
			exports = append(exports, s.Name)
		case slices.Contains(mustNotImport, s.Name):
			t.Errorf("it calls %s", s.Name)
		}
	}
	slices.Sort(exports)
	if !slices.Equal(exports, mustExport) {
		t.Errorf("it exports %q, want %q", exports, mustExport)
	}
	if libs, err := f.ImportedLibraries(); err != nil || !slices.Equal(libs, []string{"libpam.so.0", "libc.so.6"}) {
		t.Errorf("it needs %q, %v", libs, err)
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH, elf.DT_TEXTREL} {
		if v, _ := f.DynValue(tag); len(v) > 0 {
			t.Errorf("it has %v", tag)
		}
	}
	if flags, _ := f.DynValue(elf.DT_FLAGS_1); len(flags) != 1 || elf.DynFlag1(flags[0])&elf.DF_1_NOW == 0 {
		t.Errorf("flags %#x, want NOW", flags)
	}
	relro := false
	for _, p := range f.Progs {
		relro = relro || p.Type == elf.PT_GNU_RELRO
		if p.Type == elf.PT_GNU_STACK && p.Flags&elf.PF_X != 0 || p.Type == elf.PT_LOAD && p.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X {
			t.Errorf("a segment is %v", p.Flags)
		}
	}
	if !relro {
		t.Error("it has no RELRO segment")
	}

	// Nothing of the test build is in it, and the paths of the contract are.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("LATCHKEY_TEST")) || bytes.Contains(data, []byte("lk_setting")) {
		t.Error("something of the test build is in it")
	}
	for _, want := range []string{"/run/latchkey/shim-root.sock", "/etc/passwd", "/run/latchkey-pam", "/tmp"} {
		if !bytes.Contains(data, []byte(want+"\x00")) {
			t.Errorf("it does not name %s", want)
		}
	}
}
