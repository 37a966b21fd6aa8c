// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// mask is which fields of a row a caller wants, one bit for each by its number;
// 0 is all of them. Rows have fewer than 64.
type mask uint64

var (
	userFields  = (*latchkeyv1.User)(nil).ProtoReflect().Descriptor().Fields()
	groupFields = (*latchkeyv1.Group)(nil).ProtoReflect().Descriptor().Fields()
)

// parseMask reads a read_mask (aip.dev/157) for rows with these fields.
func parseMask(m *fieldmaskpb.FieldMask, fields protoreflect.FieldDescriptors) (mask, error) {
	var wanted mask
	for _, path := range m.GetPaths() {
		if path == "*" && len(m.GetPaths()) == 1 {
			return 0, nil
		}
		f := fields.ByName(protoreflect.Name(path))
		if f == nil {
			return 0, bad("read_mask", "there is no field %.200q", path)
		}
		wanted |= 1 << f.Number()
	}
	return wanted, nil
}

// clear takes out of a row what is not wanted.
func (m mask) clear(row proto.Message) {
	if m == 0 {
		return
	}
	r := row.ProtoReflect()
	r.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if m&(1<<f.Number()) == 0 {
			r.Clear(f)
		}
		return true
	})
}
