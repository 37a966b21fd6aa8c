// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// object is a JSON object whose fields keep their order.
type object []field

type field struct {
	name  string
	value any
}

// MarshalJSON writes the fields in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, err
		}
		value, err := marshal(f.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshal is json.Marshal that leaves <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// jsonOf turns a message of the API into what --json prints: the field names of
// the .proto files; every field that is no message, set or not; numbers as
// numbers; enums as the words behind their prefix in lower case, "" for
// unspecified; times as RFC 3339; durations in seconds. Messages that are not
// set are left out.
func jsonOf(m proto.Message) object {
	o := object{}
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if (f.Message() != nil && !f.IsList() && !f.IsMap() || f.ContainingOneof() != nil) && !r.Has(f) {
			continue
		}
		v := r.Get(f)
		switch {
		case f.IsList():
			list := make([]any, v.List().Len())
			for i := range list {
				list[i] = jsonValue(f, v.List().Get(i))
			}
			o = append(o, field{string(f.Name()), list})
		case f.IsMap():
			values := map[string]any{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				values[k.String()] = jsonValue(f.MapValue(), v)
				return true
			})
			o = append(o, field{string(f.Name()), values})
		default:
			o = append(o, field{string(f.Name()), jsonValue(f, v)})
		}
	}
	return o
}

// jsonList is jsonOf of each.
func jsonList[T proto.Message](all []T) []object {
	list := make([]object, len(all))
	for i, m := range all {
		list[i] = jsonOf(m)
	}
	return list
}

func jsonValue(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.MessageKind:
		switch m := v.Message().Interface().(type) {
		case *timestamppb.Timestamp:
			return m.AsTime().Format(time.RFC3339Nano)
		case *durationpb.Duration:
			return m.AsDuration().Seconds()
		default:
			return jsonOf(m)
		}
	case protoreflect.EnumKind:
		return enumWord(f.Enum(), v.Enum())
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	}
	return v.Interface()
}

// enumWord returns HEALTH_NOT_JOINED as "not_joined" and an unspecified value
// as "". The prefix is what all values have in common.
func enumWord(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	zero := string(e.Values().ByNumber(0).Name())
	prefix := strings.TrimSuffix(zero, "UNSPECIFIED")
	v := e.Values().ByNumber(n)
	if v == nil || n == 0 {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix))
}

// word is enumWord with blanks for underscores, for people.
func word(e protoreflect.Enum) string {
	return strings.ReplaceAll(enumWord(e.Descriptor(), e.Number()), "_", " ")
}

// printJSON prints one value as JSON for programs and people both.
func (a *app) printJSON(v any) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = a.out.Write(out.Bytes())
	return err
}

// printLine prints one value as JSON on one line.
func (a *app) printLine(v any) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	_, err = a.out.Write(append(b, '\n'))
	return err
}

// printList prints {"name": [ ... ]} while the items come, so that a list need
// not fit into memory.
func (a *app) printList(name string, each func(item func(proto.Message) error) error) error {
	if _, err := a.out.Write([]byte("{\n  \"" + name + "\": [")); err != nil {
		return err
	}
	separator := "\n    "
	err := each(func(m proto.Message) error {
		b, err := marshal(jsonOf(m))
		if err != nil {
			return err
		}
		_, err = a.out.Write(append([]byte(separator), b...))
		separator = ",\n    "
		return err
	})
	if err != nil {
		return err
	}
	_, err = a.out.Write([]byte("\n  ]\n}\n"))
	return err
}
