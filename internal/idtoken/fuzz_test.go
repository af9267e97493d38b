// SPDX-License-Identifier: Apache-2.0

package idtoken

import (
	"errors"
	"strings"
	"testing"
)

// FuzzVerify looks for a token that is accepted though nobody with our key
// signed it, for claims that are accepted though they are another's, and for a
// panic.
func FuzzVerify(f *testing.F) {
	algs := []string{"HS256", "ES256", "RS256"}
	verifiers := make([]*Verifier, len(algs))
	ours := map[string]bool{} // the signing inputs that we signed
	good := text(goodClaims())
	for i, alg := range algs {
		verifiers[i] = verifierFor(alg)
		header := text(goodHeader(alg))
		raw := compact(alg, keyFor(alg), header, good)
		ours[raw[:strings.LastIndexByte(raw, '.')]] = true
		f.Add(raw, header, good)
		f.Add(raw+"\n", header, good)
		f.Add(raw[:strings.LastIndexByte(raw, '.')+1], header, text(object{}))
	}
	none := b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(good)) + "."
	f.Add(none, `{"alg":"none"}`, good)
	f.Add("..", `{"alg":"HS256","crit":["b64"],"b64":false}`, `{"sub":"alice","SUB":"root"}`)
	f.Add("a.b.c", `{"alg":"ES256","jwk":{"kty":"EC"}}`, `{"exp":1e300,"aud":[[]]}`)
	f.Add("{}", `{"alg":"HS256","alg":"none"}`, strings.Repeat("[", 1000))

	attacker := map[string]any{"HS256": secretKey()[1:], "ES256": otherP256()}
	f.Fuzz(func(t *testing.T, raw, header, payload string) {
		for i, v := range verifiers {
			if _, err := v.Verify(t.Context(), raw, expected); err == nil && !ours[raw[:strings.LastIndexByte(raw, '.')]] {
				t.Errorf("%s: accepted what we did not sign: %q", algs[i], raw)
			}
			key, ok := attacker[algs[i]]
			if !ok {
				continue
			}
			if _, err := v.Verify(t.Context(), compact(algs[i], key, header, payload), expected); err == nil {
				t.Errorf("%s: accepted what somebody else signed: %s.%s", algs[i], header, payload)
			}
			// With our key and the right header it is the claims that must hold.
			c, err := v.Verify(t.Context(), compact(algs[i], keyFor(algs[i]), text(goodHeader(algs[i])), payload), expected)
			if err != nil {
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Errorf("%s: a %T: %v", algs[i], err, err)
				}
				continue
			}
			if c.String("iss") != testIssuer || c.String("nonce") != testNonce || c.String("sub") == "" || c["aud"] == nil || c["exp"] == nil || c["iat"] == nil {
				t.Errorf("%s: accepted %s", algs[i], payload)
			}
		}
	})
}
