// SPDX-License-Identifier: Apache-2.0

package nss

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the module may take from libc: nothing that allocates by itself, locks,
// prints, connects or exits.
var mayImport = []string{
	"__errno_location", "__stack_chk_fail", "__memcpy_chk", "__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable",
	"clock_gettime", "close", "fstat", "getpid", "memcmp", "memcpy", "memset", "mmap", "munmap", "open", "open64", "fstat64", "stat64", "mmap64",
	"__progname", "program_invocation_short_name", "pthread_setcancelstate", "pthread_sigmask", "realloc", "secure_getenv", "sigfillset", "stat", "strcasecmp", "strnlen",
}

var mustExport = []string{
	"_nss_latchkey_endgrent", "_nss_latchkey_endpwent", "_nss_latchkey_getgrent_r", "_nss_latchkey_getgrgid_r", "_nss_latchkey_getgrnam_r",
	"_nss_latchkey_getpwent_r", "_nss_latchkey_getpwnam_r", "_nss_latchkey_getpwuid_r", "_nss_latchkey_initgroups_dyn", "_nss_latchkey_setgrent", "_nss_latchkey_setpwent",
}

// shipped compiles the module as `make build` does.
func shipped(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "libnss_latchkey.so.2")
	if out, err := exec.Command("make", "-s", "-f", "build.mk", "NSS_OUT="+path).CombinedOutput(); err != nil {
		t.Fatalf("make: %v\n%s", err, out)
	}
	return path
}

func TestShippedModule(t *testing.T) {
	path := shipped(t)
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
		if s.Section == elf.SHN_UNDEF {
			if !slices.Contains(mayImport, s.Name) {
				t.Errorf("it calls %s", s.Name)
			}
			continue
		}
		exports = append(exports, s.Name)
	}
	slices.Sort(exports)
	if !slices.Equal(exports, mustExport) {
		t.Errorf("it exports %q, want %q", exports, mustExport)
	}

	if libs, err := f.ImportedLibraries(); err != nil || !slices.Equal(libs, []string{"libc.so.6"}) {
		t.Errorf("it needs %q, %v", libs, err)
	}
	if name, err := f.DynString(elf.DT_SONAME); err != nil || !slices.Equal(name, []string{"libnss_latchkey.so.2"}) {
		t.Errorf("its name is %q, %v", name, err)
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH, elf.DT_TEXTREL} {
		if v, _ := f.DynValue(tag); len(v) > 0 {
			t.Errorf("it has %v", tag)
		}
	}
	flags, _ := f.DynValue(elf.DT_FLAGS_1)
	if len(flags) != 1 || elf.DynFlag1(flags[0])&(elf.DF_1_NOW|elf.DF_1_NODELETE) != elf.DF_1_NOW|elf.DF_1_NODELETE {
		t.Errorf("flags %#x, want NOW and NODELETE", flags)
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

	// Nothing of the test builds is in it, and its path is.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "lk_test") || strings.Contains(string(data), "LATCHKEY_TEST") {
		t.Error("something of the test build is in it")
	}
	if !bytes.Contains(data, []byte("\x00/var/lib/latchkey-nss/identities\x00")) {
		t.Error("it does not look at the path of the contract")
	}
}

// A module that was loaded and closed again stays, for a thread may be in it.
func TestShippedModuleStaysLoaded(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "load")
	if err := os.WriteFile(program+".c", []byte(`
		#include <dlfcn.h>
		#include <stdio.h>
		int main(int argc, char **argv) {
			void *h = dlopen(argv[1], RTLD_NOW);
			int (*end)(void) = h ? (int (*)(void)) dlsym(h, "_nss_latchkey_endpwent") : 0;
			if (!end || dlclose(h) != 0)
				return puts(dlerror()), 1;
			return end() == 1 ? 0 : argc;
		}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "gcc", "-o", program, program+".c")
	run(t, nil, program, shipped(t))
}
