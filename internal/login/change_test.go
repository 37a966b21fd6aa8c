// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func TestPasswordOfEntraIsChangedThere(t *testing.T) {
	w := newWorld(t)
	url, here, err := w.login.PasswordPlace(t.Context(), "bob")
	if here || url != "https://password.example.test" || err != nil {
		t.Errorf("bob: %q, %v, %v", url, here, err)
	}
	if _, here, err := w.login.PasswordPlace(t.Context(), "alice"); !here || err != nil {
		t.Errorf("alice: %v, %v", here, err)
	}
	texts, err := w.login.ChangePassword(t.Context(), login.Request{Name: "bob"}, secret.FromString("a"), secret.FromString("b"))
	wantKind(t, "bob", err, fault.Denied)
	if len(texts) == 0 || !strings.Contains(texts[0], "https://password.example.test") {
		t.Errorf("texts %q", texts)
	}
	if n := len(w.kdc.Requests()); n != 0 {
		t.Errorf("the KDC was asked %d times", n)
	}
}
