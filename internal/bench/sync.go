// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// attributes is what the mirror reads of an object: ldapsearch is asked for the
// same.
const attributes = "objectGUID objectSid objectClass sAMAccountName userPrincipalName displayName givenName sn mail " +
	"msDS-aadObjectId msDS-AzureADObjectId msDS-AzureADMailNickname userAccountControl primaryGroupID groupType " +
	"pwdLastSet accountExpires lockoutTime sIDHistory member uSNChanged whenCreated"

func benchSync(ctx context.Context, s *stage, r *report) error {
	if _, err := s.nas.Output(ctx, "sh", "-c", "KRB5_CONFIG=/etc/krb5.conf kinit -k -t /var/lib/latchkey/krb5.keytab 'NAS$'"); err != nil {
		return err
	}
	search := fmt.Sprintf("ldapsearch -LLL -N -Q -Y GSSAPI -H ldap://%s -E pr=1000/noprompt -b %s "+
		"'(|(&(objectCategory=person)(objectClass=user))(objectClass=group))' %s >/tmp/ldapsearch.ldif 2>&1; wc -c </tmp/ldapsearch.ldif",
		s.domain.DC.FQDN(), s.domain.BaseDN(), attributes)
	var full, whole, peer sample
	var read int64
	for range 5 {
		began := time.Now()
		out, err := s.nas.Output(ctx, "sh", "-c", search)
		if err != nil {
			return err
		}
		peer = append(peer, time.Since(began))
		if len(strings.TrimSpace(out)) < 6 {
			log, _ := s.nas.Output(ctx, "head", "-c", "300", "/tmp/ldapsearch.ldif")
			return fmt.Errorf("ldapsearch returned too little: %s bytes: %s", out, log)
		}
		began = time.Now()
		result, err := s.sync(ctx, true)
		if err != nil {
			return err
		}
		whole = append(whole, time.Since(began))
		full = append(full, result.GetDuration().AsDuration())
		read = result.GetRead()
	}
	if err := s.nas.UseNSS(ctx); err != nil {
		return err
	}
	var incremental, shown, visible sample
	for i := range 10 {
		title := fmt.Sprintf("User changed %d", i)
		began := time.Now()
		if err := s.domain.SetAttr(ctx, "user00001", "displayName", []byte(title)); err != nil {
			return err
		}
		if i%2 == 0 { // told to look
			began = time.Now()
			if _, err := s.sync(ctx, false); err != nil {
				return err
			}
			incremental = append(incremental, time.Since(began))
			if err := s.waitGecos(ctx, "user00001", title); err != nil {
				return err
			}
			shown = append(shown, time.Since(began))
			continue
		}
		if err := s.waitDisplayName(ctx, "user00001", title); err != nil { // notified
			return err
		}
		visible = append(visible, time.Since(began))
	}
	r.table("Mirror",
		[]string{"what", "latchkey", "ldapsearch, same attributes, sealed", "ratio"},
		[]string{fmt.Sprintf("full pass, %d objects, into the store", read), whole.String(), peer.String(), ratio(whole.median(), peer.median())},
		[]string{"of which the pass itself", full.String(), "", ""},
		[]string{"incremental pass after one change, when told", incremental.String(), "", ""},
		[]string{"the same, until `getent` shows it", shown.String(), "", ""},
		[]string{"change in the directory until GetUser shows it, by notification", visible.String(), "", ""})
	return nil
}

func (s *stage) waitDisplayName(ctx context.Context, user, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	req := &latchkeyv1.GetUserRequest{Key: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: user}}}
	for {
		u, err := s.identity().GetUser(ctx, req)
		if err != nil {
			return err
		}
		if u.GetDisplayName() == want {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// waitGecos waits until the box's own names say want.
func (s *stage) waitGecos(ctx context.Context, user, want string) error {
	_, err := s.nas.Output(ctx, "bash", "-c", `for i in {1..60000}; do
		IFS=: read -r _ _ _ _ gecos _ < <(getent passwd `+user+`); [ "$gecos" = "`+want+`" ] && exit 0; sleep 0.005; done; exit 1`)
	return err
}
