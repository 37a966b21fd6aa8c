// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"math/rand/v2"
	"testing"
)

// A domain of 100,000 users and 10,000 groups, with about six groups a user and
// one group that has everybody.
func large(b *testing.B) ([]User, []Group) {
	us, gs := domain(100_000, 10_000, rand.New(rand.NewPCG(21, 22)))
	b.ResetTimer()
	return us, gs
}

func BenchmarkBuild(b *testing.B) {
	us, gs := large(b)
	for b.Loop() {
		builder, _ := NewBuilder(testOptions)
		for _, u := range us {
			if err := builder.AddUser(u); err != nil {
				b.Fatal(err)
			}
		}
		for _, g := range gs {
			if err := builder.AddGroup(g); err != nil {
				b.Fatal(err)
			}
		}
		im, err := builder.Build()
		if err != nil {
			b.Fatal(err)
		}
		im.Encode(make([]byte, im.Size()))
		b.SetBytes(int64(im.Size()))
	}
}

func BenchmarkValidate(b *testing.B) {
	us, gs := large(b)
	data := build(b, testOptions, us, gs)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r, err := Open(data)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Validate(Rules{Ranges: testOptions.Ranges, Taken: func(string) bool { return false }}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUserByName(b *testing.B) {
	us, gs := domain(5000, 500, rand.New(rand.NewPCG(21, 22)))
	r := open(b, build(b, testOptions, us, gs))
	i := 0
	for b.Loop() {
		if _, ok := r.UserByName(us[i].Name); !ok {
			b.Fatal("not found")
		}
		if i++; i == len(us) {
			i = 0
		}
	}
}
