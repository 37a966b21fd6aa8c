// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(New(&out, slog.LevelInfo, "text", true))
	log.Debug("not this")
	log.Info("one\ntwo", "key", "a b", "time", 3)
	log.With("domain", "x").WithGroup("g").Warn("careful", "level", 1)
	log.Error("bad", "password", secret.FromString("hunter2"))
	want := `<6>msg="one\ntwo" key="a b" time=3` + "\n" +
		`<4>msg=careful domain=x g.level=1` + "\n" +
		`<3>msg=bad password=[redacted]` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}

	out.Reset()
	slog.New(New(&out, Level("debug"), "text", false)).Debug("x")
	if got := out.String(); !strings.HasPrefix(got, "time=") || !strings.Contains(got, "level=DEBUG msg=x") {
		t.Errorf("terminal: got %q", got)
	}
	out.Reset()
	slog.New(New(&out, Level("nonsense"), "json", true)).Info("x")
	if got := out.String(); !strings.HasPrefix(got, `{"time":`) || !strings.Contains(got, `"level":"INFO"`) {
		t.Errorf("json: got %q", got)
	}
}

func TestIsJournal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if t.Setenv("JOURNAL_STREAM", ""); IsJournal(f) {
		t.Error("a file is no journal")
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", strconv.FormatUint(st.Dev, 10)+":"+strconv.FormatUint(st.Ino, 10))
	if !IsJournal(f) {
		t.Error("the stream that JOURNAL_STREAM names is the journal")
	}
}
