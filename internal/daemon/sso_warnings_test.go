// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/config"
)

// A redirect URI that browsers cannot use well is told, also where its host is an
// IPv6 address.
func TestRedirectURIsThatAreTold(t *testing.T) {
	for uri, want := range map[string]string{
		"https://nas.aadds.contoso.test:8443/auth/oidc/callback": "",
		"https://localhost/auth/oidc/callback":                   "",
		"https://10.0.0.5:8443/auth/oidc/callback":               "has the address 10.0.0.5 in the place of a name",
		"https://[fd00::1]:8443/auth/oidc/callback":              "has the address fd00::1 in the place of a name",
		"https://[fe80::1%25eth0]/auth/oidc/callback":            "has the address fe80::1%eth0 in the place of a name",
		"https://nas/auth/oidc/callback":                         "host nas is no full name",
	} {
		c := config.Default()
		c.SSO.RedirectURI = uri
		if got := strings.Join((&Daemon{}).ssoWarnings(&c, nil), " "); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", uri, got, want)
		}
	}
}
