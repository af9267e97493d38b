// SPDX-License-Identifier: Apache-2.0

package idtoken

import (
	"testing"
)

// BenchmarkVerify is what a sign-in costs here, all keys known.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"HS256", "RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			v, raw := verifierFor(alg), sign(alg, nil)
			if _, err := v.Verify(b.Context(), raw, expected); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), raw, expected); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
