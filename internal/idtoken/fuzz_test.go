// SPDX-License-Identifier: Apache-2.0

package idtoken

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// seed begins with tokens that we signed and with none of their signatures. ours are
// the signing inputs of the first.
func seed(f *testing.F, algs []string, header func(alg string) string, payload string) (verifiers []*Verifier, ours map[string]bool, none string) {
	ours = make(map[string]bool)
	for _, alg := range algs {
		verifiers = append(verifiers, verifierFor(alg))
		raw := compact(alg, keyFor(alg), header(alg), payload)
		ours[raw[:strings.LastIndexByte(raw, '.')]] = true
		f.Add(raw, header(alg), payload)
		f.Add(raw+"\n", header(alg), payload)
		f.Add(raw[:strings.LastIndexByte(raw, '.')+1], header(alg), text(object{}))
	}
	none = b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(payload)) + "."
	f.Add(none, `{"alg":"none"}`, payload)
	return verifiers, ours, none
}

// FuzzVerify looks for a token that is accepted though nobody with our key
// signed it, for claims that are accepted though they are another's, and for a
// panic.
func FuzzVerify(f *testing.F) {
	algs := []string{"HS256", "ES256", "RS256"}
	good := text(goodClaims())
	verifiers, ours, _ := seed(f, algs, func(alg string) string { return text(goodHeader(alg)) }, good)
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

// FuzzVerifyLogout looks for the same with logout tokens, and for one that would
// end the sessions of whoever has no sub or sid.
func FuzzVerifyLogout(f *testing.F) {
	algs := []string{"HS256", "ES256"}
	good := text(goodLogout())
	verifiers, ours, none := seed(f, algs, func(alg string) string { return text(logoutHeader(alg)) }, good)
	f.Add(none, `{"alg":"HS256","typ":null}`, strings.TrimSuffix(good, "}")+`,"nonce":null}`)
	f.Add("a.b.c", `{"alg":"ES256","typ":"LOGOUT+jwt"}`, strings.Replace(good, `"sid":"`, `"sid":"","x":"`, 1))
	f.Add("{}", `{"alg":"HS256","alg":"none"}`, text(goodClaims()))

	attacker := map[string]any{"HS256": secretKey()[1:], "ES256": otherP256()}
	f.Fuzz(func(t *testing.T, raw, header, payload string) {
		for i, v := range verifiers {
			for _, o := range []LogoutOptions{{}, {MayLackExpiry: true}} {
				if _, err := v.VerifyLogout(t.Context(), raw, o); err == nil && !ours[raw[:strings.LastIndexByte(raw, '.')]] {
					t.Errorf("%s: accepted what we did not sign: %q", algs[i], raw)
				}
				if _, err := v.VerifyLogout(t.Context(), compact(algs[i], attacker[algs[i]], header, payload), o); err == nil {
					t.Errorf("%s: accepted what somebody else signed: %s.%s", algs[i], header, payload)
				}
				// With our key and the right header it is the claims that must hold.
				out, err := v.VerifyLogout(t.Context(), compact(algs[i], keyFor(algs[i]), text(logoutHeader(algs[i])), payload), o)
				if err != nil {
					if refused, ok := errors.AsType[*Error](err); !ok || !strings.HasPrefix(refused.Error(), "logout token: ") {
						t.Errorf("%s: a %T: %v", algs[i], err, err)
					}
					continue
				}
				var members map[string]json.RawMessage
				if err := json.Unmarshal([]byte(payload), &members); err != nil {
					t.Fatalf("%s: accepted %s", algs[i], payload)
				}
				_, nonce := members["nonce"]
				_, sub := members["sub"]
				_, sid := members["sid"]
				_, exp := members["exp"]
				if nonce || sub != (out.Subject != "") || sid != (out.SID != "") || !sub && !sid || !exp && !o.MayLackExpiry || out.Issued.After(testNow().Add(testSkew)) ||
					members["iss"] == nil || members["aud"] == nil || members["jti"] == nil || !strings.Contains(string(members["events"]), "{") {
					t.Errorf("%s: accepted %s as %+v", algs[i], payload, out)
				}
				if _, err := v.Verify(t.Context(), compact(algs[i], keyFor(algs[i]), text(goodHeader(algs[i])), payload), refreshed); err == nil {
					t.Errorf("%s: it signs in too: %s", algs[i], payload)
				}
			}
		}
	})
}
