// SPDX-License-Identifier: Apache-2.0

package join

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// member is a world with this machine in it.
func member(t *testing.T) (*world, *Joiner, *recordingKeys) {
	t.Helper()
	w := newWorld()
	j, _ := w.joiner(t)
	keys := &recordingKeys{}
	j.cfg.HostKeys = keys
	mustJoinHere(t, j, request())
	w.asked = nil
	return w, j, keys
}

// forgotten reports whether nothing of the membership is left here.
func forgotten(t *testing.T, j *Joiner) bool {
	t.Helper()
	_, file := os.Stat(j.cfg.KeytabPath)
	_, err := j.cfg.Memory.Machine(t.Context())
	if errors.Is(file, fs.ErrNotExist) != fault.Is(err, fault.NotFound) {
		t.Errorf("half forgotten: keytab %v, record %v", file, err)
	}
	return fault.Is(err, fault.NotFound)
}

func alice() LeaveRequest {
	return LeaveRequest{User: "alice", Password: secret.FromString(testPassword)}
}

func TestLeaveDeletesTheAccount(t *testing.T) {
	w, j, keys := member(t)
	// It was moved and renamed meanwhile: the SID finds it.
	o := w.objects["CN=NAS,"+computersOU]
	delete(w.objects, "CN=NAS,"+computersOU)
	w.objects["CN=NAS-1,OU=NAS,"+testBase] = o
	var s steps
	if err := j.Leave(t.Context(), alice(), s.tell); err != nil {
		t.Fatal(err)
	}
	if _, there := w.objects["CN=NAS-1,OU=NAS,"+testBase]; there || len(w.names) != 0 || !forgotten(t, j) {
		t.Errorf("left: account %v, names %v", there, w.names)
	}
	if len(keys.remove) != 1 || keys.remove[0].FQDN != "nas."+testDomain {
		t.Errorf("root's keys: %+v", keys.remove)
	}
	if last := s[len(s)-1]; last.Percent != 100 || last.ID != StepForget || last.State != Done {
		t.Errorf("the last step is %+v", last)
	}
}

func TestLeaveThatFailsChangesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		harm   func(*world)
		req    LeaveRequest
		kind   fault.Kind
		say    string
		remedy string
	}{
		"no right":       {func(w *world) { w.refuse = refuseAll("delete", ldapDenied) }, alice(), fault.Denied, "alice may not delete CN=NAS," + computersOU, "--keep-account"},
		"not empty":      {func(w *world) { w.refuse = refuseAll("delete", ldapNotLeaf) }, alice(), fault.Conflict, "holds other objects", "--keep-account"},
		"wrong password": {func(w *world) {}, LeaveRequest{User: "alice", Password: secret.FromString("no")}, fault.BadCredential, "password of alice is wrong", "type it again"},
		"domain gone":    {func(w *world) { w.found = fault.New(fault.Unreachable, "no answer") }, alice(), fault.Unreachable, "no answer", "--keep-account"},
		"read-only DCs":  {func(w *world) { w.dcs[0].Flags = directory.DCIsKDC }, alice(), fault.Unreachable, "no writable", "--keep-account"},
		"no password":    {func(w *world) {}, LeaveRequest{User: "alice"}, fault.Malformed, "the password is empty", "--password-stdin"},
		"two wishes":     {func(w *world) {}, LeaveRequest{User: "alice", Password: secret.FromString("x"), KeepAccount: true}, fault.Malformed, "to be kept", "--keep-account"},
		"no user name":   {func(w *world) {}, LeaveRequest{User: `\`, Password: secret.FromString("x")}, fault.Malformed, "not a user name", "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			w, j, _ := member(t)
			tc.harm(w)
			var s steps
			err := j.Leave(t.Context(), tc.req, s.tell)
			if !fault.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), tc.say) || !strings.Contains(fault.Remedy(err), tc.remedy) {
				t.Errorf("Leave = %v %q -> %q, want %v %q -> %q", fault.KindOf(err), err, fault.Remedy(err), tc.kind, tc.say, tc.remedy)
			}
			if forgotten(t, j) || len(w.names) != 1 || w.objects["CN=NAS,"+computersOU] == nil {
				t.Errorf("it changed something: names %v", w.names)
			}
			w.refuse, w.found, w.dcs[0].Flags = nil, nil, directory.DCIsWritable
			if err := j.Leave(t.Context(), alice(), s.tell); err != nil {
				t.Errorf("the next leave: %v", err)
			}
		})
	}
}

func TestLeaveWhereAMachineMayDisableItself(t *testing.T) {
	w, j, _ := member(t)
	var s steps
	if err := j.Leave(t.Context(), LeaveRequest{}, s.tell); err != nil {
		t.Fatal(err)
	}
	if got := entry("", w.objects["CN=NAS,"+computersOU]).First("userAccountControl"); got != "4098" || s.last(StepDisable).State != Done || !strings.Contains(s.last(StepDisable).Remedy, "CN=NAS,") {
		t.Errorf("userAccountControl %s, step %+v", got, s.last(StepDisable))
	}
	if len(w.names) != 0 || !forgotten(t, j) {
		t.Errorf("names %v", w.names)
	}
	// The way back: the same user enables it again.
	if m, _ := mustJoinHere(t, j, request()); !m.Rejoined || entry("", w.objects["CN=NAS,"+computersOU]).First("userAccountControl") != "4096" {
		t.Errorf("membership %+v", m)
	}
}

func TestLeaveAloneForgetsWhateverTheDomainSays(t *testing.T) {
	for name, tc := range map[string]struct {
		harm func(*world, *recordingKeys)
		step string
		say  string
	}{
		"domain gone":     {func(w *world, _ *recordingKeys) { w.found = fault.New(fault.Unreachable, "no answer") }, StepDC, "the domain is not told"},
		"neither allowed": {func(w *world, _ *recordingKeys) { w.refuse = refuseAll("modify", ldapDenied) }, StepDisable, "neither disable its account nor change its password"},
		"no DNS":          {func(w *world, _ *recordingKeys) { w.zoneErr = fault.New(fault.Denied, "REFUSED") }, StepUnregister, "REFUSED"},
		"root's keys":     {func(_ *world, k *recordingKeys) { k.err = fault.New(fault.Internal, "no monitor") }, StepHostKeys, "no monitor"},
		"account deleted": {func(w *world, _ *recordingKeys) { w.account("NAS$").Password = "reset" }, StepDisable, "sign in as NAS$"},
	} {
		t.Run(name, func(t *testing.T) {
			w, j, keys := member(t)
			tc.harm(w, keys)
			var s steps
			if err := j.Leave(t.Context(), LeaveRequest{}, s.tell); err != nil || !forgotten(t, j) {
				t.Errorf("Leave = %v", err)
			}
			if got := s.last(tc.step); got.State != Warning || !strings.Contains(got.Detail, tc.say) || got.Remedy == "" {
				t.Errorf("step %+v, want a warning that says %q", got, tc.say)
			}
		})
	}
}

func TestLeaveKeepingTheAccountAsksNobody(t *testing.T) {
	w, j, _ := member(t)
	w.found = errors.New("asked")
	var s steps
	if err := j.Leave(t.Context(), LeaveRequest{KeepAccount: true}, s.tell); err != nil || !forgotten(t, j) || len(w.asked) != 0 {
		t.Errorf("Leave = %v, asked %q", err, w.asked)
	}
	for _, one := range s {
		if one.ID != StepRequest && one.ID != StepMember && one.ID != StepHostKeys && one.ID != StepForget {
			t.Errorf("step %+v", one)
		}
	}
	if err := j.Leave(t.Context(), LeaveRequest{}, s.tell); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second leave = %v, want a conflict", err)
	}
}
