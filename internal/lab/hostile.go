// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
)

// SetRaw writes bytes into an attribute that the directory itself would
// refuse: no UTF-8, control characters, names that no account may have. It
// writes below Samba's checks, into the file of the partition, and then
// touches the object so that its uSNChanged moves. Without values the
// attribute is removed.
func (d *Domain) SetRaw(ctx context.Context, name, attr string, values ...[]byte) error {
	object, err := d.Find(ctx, name)
	if err != nil {
		return err
	}
	var ldif strings.Builder
	fmt.Fprintf(&ldif, "dn:: %s\nchangetype: modify\nreplace: %s\n", base64.StdEncoding.EncodeToString([]byte(object.DN)), attr)
	for _, value := range values {
		fmt.Fprintf(&ldif, "%s:: %s\n", attr, base64.StdEncoding.EncodeToString(value))
	}
	ldif.WriteString("-\n")
	command := d.DC.Command("ldbmodify", "-H", "tdb:///var/lib/samba/private/sam.ldb.d/"+strings.ToUpper(d.BaseDN())+".ldb")
	command.Stdin = strings.NewReader(ldif.String())
	if _, err := command.Output(ctx); err != nil {
		return err
	}
	_, err = d.Apply(ctx, Change{Op: "modify", DN: object.DN, Set: map[string][][]byte{"info": Text("written raw")}})
	return err
}
