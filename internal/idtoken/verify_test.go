// SPDX-License-Identifier: Apache-2.0

package idtoken

// What a token must not get past: the table of misbehaviour for each family of
// algorithms, and the headers, forms and clocks that attackers choose.

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// families has one algorithm of each kind of key, and of the two long hashes.
var families = []string{"HS256", "HS512", "RS256", "PS256", "ES256", "ES384", "EdDSA"}

func TestVerifyReturnsTheClaimsOfAGoodToken(t *testing.T) {
	t.Parallel()
	for _, alg := range families {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			got, err := verifierFor(alg).Verify(t.Context(), sign(alg, object{"uid": json.Number("9007199254740993"), "SUB": "root", "groups": []any{"a"}}), expected)
			if err != nil {
				t.Fatal(err)
			}
			// One decode: exact names, and numbers as they were written.
			if got["sub"] != testSubject || got["SUB"] != "root" || got["uid"] != json.Number("9007199254740993") {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestVerifyRefusesClaimsOfAnotherSignIn(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("s", 256)
	tests := []struct {
		name    string
		changes object
		check   string
		err     string
	}{
		{"no issuer", object{"iss": nil}, "iss", "want"},
		{"an empty issuer", object{"iss": ""}, "iss", "want"},
		{"a list with our issuer", object{"iss": []any{testIssuer}}, "iss", "want"},
		{"an object for issuer", object{"iss": object{"iss": testIssuer}}, "iss", "want"},
		{"another issuer", object{"iss": "https://other.example/"}, "iss", `got "https://other.example/"`},
		{"an issuer without its slash", object{"iss": strings.TrimSuffix(testIssuer, "/")}, "iss", "want"},
		{"an issuer with one slash more", object{"iss": testIssuer + "/"}, "iss", "want"},
		{"an issuer in upper case", object{"iss": "https://OP.example/"}, "iss", "want"},
		{"an issuer over http", object{"iss": "http://op.example/"}, "iss", "want"},
		{"an issuer without its scheme", object{"iss": "op.example/"}, "iss", "want"},
		{"an issuer with a port", object{"iss": "https://op.example:443/"}, "iss", "want"},
		{"an issuer as prefix of a host", object{"iss": "https://op.example.evil.example/"}, "iss", "want"},
		{"an issuer as user of a host", object{"iss": "https://op.example@evil.example/"}, "iss", "want"},
		{"an issuer with an ideographic full stop", object{"iss": "https://op。example/"}, "iss", "want"},
		{"an issuer with a Cyrillic o", object{"iss": "https://оp.example/"}, "iss", "want"},
		{"an issuer with white space", object{"iss": testIssuer + " "}, "iss", "want"},
		{"an issuer with a line break in it, quoted in the log", object{"iss": "x\nlevel=info"}, "iss", `x\nlevel=info`},
		{"an issuer with a NUL", object{"iss": testIssuer + "\x00"}, "iss", "want"},
		{"the issuer under another case of the name", object{"iss": nil, "ISS": testIssuer}, "iss", "want"},

		{"no audience", object{"aud": nil}, "aud", "missing"},
		{"an empty audience", object{"aud": ""}, "aud", "want"},
		{"an empty list of audiences", object{"aud": []any{}}, "aud", "want"},
		{"another client's audience", object{"aud": "client-2"}, "aud", "want"},
		{"a list without us", object{"aud": []any{"client-2", "client-3"}}, "aud", "want"},
		{"our client as prefix", object{"aud": "client-10"}, "aud", "want"},
		{"our client as suffix", object{"aud": "a-client-1"}, "aud", "want"},
		{"our client in another case", object{"aud": "CLIENT-1"}, "aud", "want"},
		{"audiences joined by a space", object{"aud": "client-1 client-2"}, "aud", "want"},
		{"audiences joined by a comma", object{"aud": "client-1,client-2"}, "aud", "want"},
		{"a number for audience", object{"aud": 1}, "aud", "no string"},
		{"true for audience", object{"aud": true}, "aud", "no string"},
		{"an object with our client as name", object{"aud": object{testClient: true}}, "aud", "no string"},
		{"our client in a nested list", object{"aud": []any{[]any{testClient}}}, "aud", "no string"},
		{"our client beside a number", object{"aud": []any{testClient, 1}}, "aud", "no string"},
		{"our client beside an object", object{"aud": []any{testClient, object{}}}, "aud", "no string"},
		{"the audience under another case of the name", object{"aud": nil, "Aud": testClient}, "aud", "missing"},

		{"azp of another client", object{"azp": "client-2"}, "azp", "want"},
		{"azp of another client, with two audiences", object{"aud": []any{testClient, "client-2"}, "azp": "client-2"}, "azp", "want"},
		{"an empty azp", object{"azp": ""}, "azp", "want"},
		{"a list for azp", object{"azp": []any{testClient}}, "azp", "want"},
		{"a number for azp", object{"azp": 1}, "azp", "want"},
		{"azp in another case", object{"azp": "Client-1"}, "azp", "want"},
		{"two audiences without azp", object{"aud": []any{testClient, "client-2"}}, "azp", "missing"},
		{"ourselves twice without azp", object{"aud": []any{testClient, testClient}}, "azp", "missing"},
		{"two audiences with azp under another case", object{"aud": []any{testClient, "client-2"}, "AZP": testClient}, "azp", "missing"},

		{"no exp", object{"exp": nil}, "exp", "missing"},
		{"a string for exp", object{"exp": "1763856300"}, "exp", "no number"},
		{"a list for exp", object{"exp": []any{testUnixTime + 300}}, "exp", "no number"},
		{"true for exp", object{"exp": true}, "exp", "no number"},
		{"exp in milliseconds", object{"exp": (testUnixTime + 300) * 1000}, "exp", "1970 and 9999"},
		{"exp of 1e300", object{"exp": json.Number("1e300")}, "exp", "1970 and 9999"},
		{"exp beyond every float", object{"exp": json.Number("1e999999")}, "exp", "1970 and 9999"},
		{"exp at the end of int64", object{"exp": json.Number("9223372036854775807")}, "exp", "1970 and 9999"},
		{"exp past the end of uint64", object{"exp": json.Number("18446744073709551616")}, "exp", "1970 and 9999"},
		{"a negative exp", object{"exp": -1}, "exp", "1970 and 9999"},
		{"exp of zero", object{"exp": 0}, "exp", "expired"},
		{"exp of 1e-300", object{"exp": json.Number("1e-300")}, "exp", "expired"},
		{"expired", object{"exp": testUnixTime - 61}, "exp", "expired 1m1s ago"},
		{"expired by just the leeway", object{"exp": testUnixTime - 60}, "exp", "expired 1m0s ago, clock_skew allows 1m0s"},
		{"expired, with a fraction", object{"exp": json.Number("1763855939.999")}, "exp", "expired"},
		{"exp under another case of the name", object{"exp": nil, "EXP": testUnixTime + 300}, "exp", "missing"},

		{"no iat", object{"iat": nil}, "iat", "missing"},
		{"a string for iat", object{"iat": "1763855995"}, "iat", "no number"},
		{"an object for iat", object{"iat": object{}}, "iat", "no number"},
		{"a negative iat", object{"iat": -1}, "iat", "1970 and 9999"},
		{"iat of 1e300", object{"iat": json.Number("1e300")}, "iat", "1970 and 9999"},
		{"iat ahead of our clock", object{"iat": testUnixTime + 61}, "iat", "is 1m1s ahead"},
		{"iat ahead by a fraction beyond the leeway", object{"iat": json.Number("1763856060.5")}, "iat", "ahead"},
		{"iat in the year 9999", object{"iat": 253402300799}, "iat", "ahead"},
		{"not valid yet", object{"nbf": testUnixTime + 61}, "nbf", "ahead"},
		{"a string for nbf", object{"nbf": "0"}, "nbf", "no number"},
		{"false for nbf", object{"nbf": false}, "nbf", "no number"},

		{"no sub", object{"sub": nil}, "sub", "missing"},
		{"an empty sub", object{"sub": ""}, "sub", "empty"},
		{"a blank sub", object{"sub": " "}, "sub", "white space"},
		{"a tab for sub", object{"sub": "\t"}, "sub", "printable"},
		{"a sub with a space before it", object{"sub": " alice"}, "sub", "white space"},
		{"a sub with a space after it", object{"sub": "alice "}, "sub", "white space"},
		{"a number for sub", object{"sub": 1}, "sub", "no string"},
		{"a list for sub", object{"sub": []any{testSubject}}, "sub", "no string"},
		{"an object for sub", object{"sub": object{"sub": testSubject}}, "sub", "no string"},
		{"true for sub", object{"sub": true}, "sub", "no string"},
		{"a sub of 256 characters", object{"sub": long}, "sub", "255"},
		{"a sub with a line break", object{"sub": "alice\r\nX-Admin: 1"}, "sub", "printable"},
		{"a sub with NUL", object{"sub": "alice\x00"}, "sub", "printable"},
		{"a sub with DEL", object{"sub": "alice\x7f"}, "sub", "printable"},
		{"a sub outside ASCII", object{"sub": "älice"}, "sub", "printable"},
		{"a sub with a zero-width space", object{"sub": "alice\u200b"}, "sub", "printable"},
		{"a sub whose last byte is a line break in Latin-1", object{"sub": "alice\u010a"}, "sub", "printable"},
		{"the sub under another case of the name", object{"sub": nil, "SUB": testSubject}, "sub", "missing"},

		{"no nonce", object{"nonce": nil}, "nonce", "this sign-in"},
		{"an empty nonce", object{"nonce": ""}, "nonce", "this sign-in"},
		{"another nonce", object{"nonce": "another"}, "nonce", "this sign-in"},
		{"a nonce with one character more", object{"nonce": testNonce + "1"}, "nonce", "this sign-in"},
		{"a nonce with one character less", object{"nonce": testNonce[1:]}, "nonce", "this sign-in"},
		{"a nonce in upper case", object{"nonce": strings.ToUpper(testNonce)}, "nonce", "this sign-in"},
		{"a nonce with white space", object{"nonce": testNonce + "\n"}, "nonce", "this sign-in"},
		{"a list with our nonce", object{"nonce": []any{testNonce}}, "nonce", "this sign-in"},
		{"an object for nonce", object{"nonce": object{"nonce": testNonce}}, "nonce", "this sign-in"},
		{"true for nonce", object{"nonce": true}, "nonce", "this sign-in"},
		{"the nonce under another case of the name", object{"nonce": nil, "Nonce": testNonce}, "nonce", "this sign-in"},
	}
	for _, alg := range families {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			v := verifierFor(alg)
			for _, test := range tests {
				t.Run(test.name, func(t *testing.T) {
					_, err := v.Verify(context.Background(), sign(alg, test.changes), expected)
					wantRefused(t, err, test.check, test.err)
					_, err = v.Verify(context.Background(), sign(alg, test.changes), refreshed)
					// A token that a refresh brings may leave the nonce out (section 12.2).
					if nonce, changed := test.changes["nonce"]; changed && nonce == nil {
						if err != nil {
							t.Errorf("after a refresh: %v", err)
						}
						return
					}
					wantRefused(t, err, test.check, test.err)
				})
			}
		})
	}
}

// OpenID Connect Core 12.2: a refresh goes on with the sign-in that was.
func TestVerifyHoldsARefreshedTokenToTheSignIn(t *testing.T) {
	t.Parallel()
	signedIn := object{"sub": testSubject, "auth_time": json.Number("1763850000")}
	without := object{"sub": testSubject}
	old := testUnixTime - 5
	for _, test := range []struct {
		name       string
		claims     object // of the session
		issued     int    // iat of the first token
		changes    object
		check, err string
	}{
		{"the same", signedIn, old, object{"auth_time": 1763850000}, "", ""},
		{"without auth_time, which there was", signedIn, old, nil, "", ""},
		{"with auth_time, which there was not", without, old, object{"auth_time": 1763850000}, "", ""},
		{"with a later auth_time", signedIn, old, object{"auth_time": 1763850001}, "auth_time", "not that of the sign-in"},
		{"with an earlier auth_time", signedIn, old, object{"auth_time": 1763849999}, "auth_time", "not that of the sign-in"},
		{"with auth_time as text", signedIn, old, object{"auth_time": "1763850000"}, "auth_time", "no number"},
		{"with auth_time as text, which there was not", without, old, object{"auth_time": "x"}, "auth_time", "no number"},
		{"with auth_time of 1e300", signedIn, old, object{"auth_time": json.Number("1e300")}, "auth_time", "1970 and 9999"},
		{"with a negative auth_time", without, old, object{"auth_time": -1}, "auth_time", "1970 and 9999"},
		{"with an auth_time of the session that is garbage", object{"sub": testSubject, "auth_time": "x"}, old, object{"auth_time": 1763850000}, "", ""},
		{"of another user", signedIn, old, object{"sub": "root"}, "sub", "another user's"},
		{"of a user whose sub is ours in another case", signedIn, old, object{"sub": strings.ToUpper(testSubject)}, "sub", "another user's"},
		{"of a user whose sub begins like ours", signedIn, old, object{"sub": testSubject + "x"}, "sub", "another user's"},
		{"for a session of nobody", object{}, old, nil, "sub", "another user's"},
		{"issued in the same second as the first", signedIn, testUnixTime - 5, nil, "", ""},
		{"issued in the same second, with a fraction", signedIn, testUnixTime - 5, object{"iat": json.Number("1763855995.25")}, "", ""},
		{"issued before the first", signedIn, testUnixTime - 5, object{"iat": testUnixTime - 6}, "iat", "before"},
		{"issued in 1970", signedIn, testUnixTime - 5, object{"iat": 0}, "iat", "before"},
		{"with the nonce of the sign-in", signedIn, old, object{"nonce": testNonce}, "", ""},
		{"without nonce", signedIn, old, object{"nonce": nil}, "", ""},
		{"with another nonce", signedIn, old, object{"nonce": "another"}, "nonce", "this sign-in"},
		{"with an empty nonce", signedIn, old, object{"nonce": ""}, "nonce", "this sign-in"},
		{"with a nonce that is no text", signedIn, old, object{"nonce": 1}, "nonce", "this sign-in"},
		{"with at_hash of another access token", signedIn, old, object{"at_hash": "d1X4n0AnOGXqgIrXoT3UAA"}, "at_hash", "access token"},
		{"with an acr and an age that a sign-in would not get by with", signedIn, old, object{"acr": "0"}, "", ""},
	} {
		for _, alg := range families {
			t.Run(test.name+" "+alg, func(t *testing.T) {
				v := verifierFor(alg)
				minute := time.Minute
				v.MaxAge, v.ACR = &minute, []string{"phr"} // were asked at the sign-in
				_, err := v.Verify(t.Context(), sign(alg, test.changes), Expect{
					Nonce: testNonce, AccessToken: testAccess, Earlier: &Earlier{Claims: test.claims, Issued: int64(test.issued)},
				})
				if test.check == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				wantRefused(t, err, test.check, test.err)
			})
		}
	}
	// A session that has no nonce fits no token that has one.
	_, err := verifierFor("HS256").Verify(t.Context(), sign("HS256", object{"nonce": ""}), Expect{AccessToken: testAccess, Earlier: refreshed.Earlier})
	wantRefused(t, err, "nonce", "this sign-in")
}

func TestVerifyAcceptsWhatTheSpecificationAllows(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		changes object
	}{
		{"a list of one audience", object{"aud": []any{testClient}}},
		{"azp that is us", object{"azp": testClient}},
		{"several audiences with azp that is us", object{"aud": []any{"client-2", testClient}, "azp": testClient}},
		{"times with a fraction", object{"exp": json.Number("1763856300.25"), "iat": json.Number("1763855995.75")}},
		{"times with an exponent", object{"exp": json.Number("1.7638563e9")}},
		{"expired, within the leeway", object{"exp": testUnixTime - 59}},
		{"issued ahead of our clock, within the leeway", object{"iat": testUnixTime + 60}},
		{"valid from now, within the leeway", object{"nbf": testUnixTime + 60}},
		{"exp at the end of the year 9999", object{"exp": 253402300799}},
		{"a sub of 255 characters", object{"sub": strings.Repeat("s", 255)}},
		{"a sub with a space inside", object{"sub": "auth0|alice liddell"}},
		{"a null where a claim may be absent", object{"nickname": json.RawMessage("null"), "nbf": json.RawMessage("null")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := verifierFor("HS256").Verify(t.Context(), sign("HS256", test.changes), expected); err != nil {
				t.Error(err)
			}
		})
	}
}

// A leeway of nothing must not turn exp into a time that is still good.
func TestVerifyWithoutLeewayEndsATokenAtItsExp(t *testing.T) {
	t.Parallel()
	v := verifierFor("HS256")
	v.Skew = 0
	if _, err := v.Verify(t.Context(), sign("HS256", object{"exp": testUnixTime + 1}), expected); err != nil {
		t.Error(err)
	}
	_, err := v.Verify(t.Context(), sign("HS256", object{"exp": testUnixTime}), expected)
	wantRefused(t, err, "exp", "expired")
	_, err = v.Verify(t.Context(), sign("HS256", object{"iat": testUnixTime + 1}), expected)
	wantRefused(t, err, "iat", "ahead")
}

// An expectation that somebody forgot to fill in must not fit every token.
func TestVerifyWithoutAnExpectedNonceRefusesEveryToken(t *testing.T) {
	t.Parallel()
	for _, nonce := range []any{nil, "", testNonce} {
		_, err := verifierFor("HS256").Verify(t.Context(), sign("HS256", object{"nonce": nonce}), Expect{})
		wantRefused(t, err, "nonce", "this sign-in")
	}
}

func TestVerifyChecksAtHashWhenItIsThere(t *testing.T) {
	t.Parallel()
	hashWith := func(alg, access string, size int) string {
		h := algorithms[alg].New()
		h.Write([]byte(access))
		return b64(h.Sum(nil)[:size])
	}
	for _, alg := range families {
		t.Run(alg, func(t *testing.T) {
			size := algorithms[alg].Size() / 2
			right := hashWith(alg, testAccess, size)
			if _, err := verifierFor(alg).Verify(t.Context(), sign(alg, object{"at_hash": right}), expected); err != nil {
				t.Errorf("the right one: %v", err)
			}
			other := "HS512"
			if size == 32 {
				other = "HS256"
			}
			for name, wrong := range map[string]any{
				"of another access token": hashWith(alg, testAccess+"x", size),
				"cut short":               right[:len(right)-2],
				"one byte":                hashWith(alg, testAccess, 1),
				"the whole hash":          hashWith(alg, testAccess, 2*size),
				"by another hash":         hashWith(other, testAccess, size),
				"with padding":            right + "=",
				"in the other alphabet":   "+/" + right[2:],
				"empty":                   "",
				"a number":                1,
				"a list":                  []any{right},
				"false":                   false,
			} {
				_, err := verifierFor(alg).Verify(t.Context(), sign(alg, object{"at_hash": wrong}), expected)
				if err == nil {
					t.Errorf("at_hash %s was accepted", name)
					continue
				}
				wantRefused(t, err, "at_hash", "access token")
			}
		})
	}
	_, err := verifierFor("HS256").Verify(t.Context(), sign("HS256", object{"at_hash": hashWith("HS256", testAccess, 16)}), Expect{Nonce: testNonce})
	wantRefused(t, err, "at_hash", "access token")
}

// OpenID Connect Core 3.3.2.10, 3.3.2.11: beside a code, an ID token vouches for it,
// or the code is anybody's.
func TestVerifyWantsTheCodesHashOfATokenThatCameBesideIt(t *testing.T) {
	t.Parallel()
	const code = "SplxlOBeZQQYbYS6WxSbIA"
	front, back := Expect{Nonce: testNonce, Code: code, Front: true}, Expect{Nonce: testNonce, Code: code}
	for _, alg := range families {
		t.Run(alg, func(t *testing.T) {
			hashOf := func(text string, size int) string {
				h := algorithms[alg].New()
				h.Write([]byte(text))
				return b64(h.Sum(nil)[:size])
			}
			size := algorithms[alg].Size() / 2
			right := hashOf(code, size)
			_, err := verifierFor(alg).Verify(t.Context(), sign(alg, object{"c_hash": right}), front)
			if Symmetric(alg) {
				// A secret is the client's too: what it has signed vouches for nothing
				// that a stranger brings.
				wantRefused(t, err, "alg", "through the browser")
				return
			}
			if err != nil {
				t.Errorf("the right one: %v", err)
			}
			_, err = verifierFor(alg).Verify(t.Context(), sign(alg, nil), front)
			wantRefused(t, err, "c_hash", "missing")
			if _, err := verifierFor(alg).Verify(t.Context(), sign(alg, nil), back); err != nil {
				t.Errorf("of the token that the code gives it is not wanted: %v", err)
			}
			for name, wrong := range map[string]any{
				"of another code": hashOf(code+"x", size), "of nothing": hashOf("", size), "cut short": right[:len(right)-2], "the whole hash": hashOf(code, 2*size),
				"with padding": right + "=", "empty": "", "a number": 1, "a list": []any{right}, "true": true,
			} {
				for _, want := range []Expect{front, back} {
					_, err := verifierFor(alg).Verify(t.Context(), sign(alg, object{"c_hash": wrong}), want)
					if err == nil {
						t.Errorf("c_hash %s was accepted", name)
						continue
					}
					wantRefused(t, err, "c_hash", "code")
				}
			}
			// An access token does not come along, so nothing vouches for one.
			_, err = verifierFor(alg).Verify(t.Context(), sign(alg, object{"c_hash": right, "at_hash": hashOf(testAccess, size)}), front)
			wantRefused(t, err, "at_hash", "access token")
			// Nor does one of a refresh have a code.
			if _, err := verifierFor(alg).Verify(t.Context(), sign(alg, object{"c_hash": right}), refreshed); err != nil {
				t.Errorf("at a refresh: %v", err)
			}
		})
	}
}

// OpenID Connect Core 3.1.3.7 items 12 and 13: what was asked for is only worth
// something when the answer is looked at.
func TestVerifyChecksFreshnessThatWasAskedFor(t *testing.T) {
	t.Parallel()
	minute, zero := time.Minute, time.Duration(0)
	for _, test := range []struct {
		name       string
		maxAge     *time.Duration
		acr        []string
		changes    object
		check, err string
	}{
		{"nothing asked, nothing there", nil, nil, nil, "", ""},
		{"nothing asked, an old sign-in", nil, nil, object{"auth_time": 0, "acr": "0"}, "", ""},
		{"signed in just now", &minute, nil, object{"auth_time": testUnixTime}, "", ""},
		{"at the age that was asked for, and the leeway", &minute, nil, object{"auth_time": testUnixTime - 120}, "", ""},
		{"older than that", &minute, nil, object{"auth_time": testUnixTime - 121}, "auth_time", "signed in 2m1s ago, max_age is 1m0s"},
		{"long ago, when none was allowed", &zero, nil, object{"auth_time": testUnixTime - 61}, "auth_time", "max_age is 0s"},
		{"in 1970", &minute, nil, object{"auth_time": 0}, "auth_time", "max_age"},
		{"ahead of our clock, within the leeway", &minute, nil, object{"auth_time": testUnixTime + 60}, "", ""},
		{"ahead of our clock", &minute, nil, object{"auth_time": testUnixTime + 61}, "auth_time", "ahead"},
		{"in the year 9999", &minute, nil, object{"auth_time": 253402300799}, "auth_time", "ahead"},
		{"no auth_time", &minute, nil, nil, "auth_time", "missing"},
		{"a string for auth_time", &minute, nil, object{"auth_time": "1763856000"}, "auth_time", "no number"},
		{"auth_time of 1e300", &minute, nil, object{"auth_time": json.Number("1e300")}, "auth_time", "1970 and 9999"},
		{"a negative auth_time", &minute, nil, object{"auth_time": -1}, "auth_time", "1970 and 9999"},
		{"auth_time under another case of the name", &minute, nil, object{"Auth_Time": testUnixTime}, "auth_time", "missing"},
		{"the acr that was asked for", nil, []string{"phr"}, object{"acr": "phr"}, "", ""},
		{"the second of two", nil, []string{"phrh", "phr"}, object{"acr": "phr"}, "", ""},
		{"no acr", nil, []string{"phr"}, nil, "acr", "want one of"},
		{"an empty acr", nil, []string{"phr"}, object{"acr": ""}, "acr", "want one of"},
		{"another acr", nil, []string{"phr"}, object{"acr": "0"}, "acr", "want one of"},
		{"an acr that begins alike", nil, []string{"phr"}, object{"acr": "phrh"}, "acr", "want one of"},
		{"both at once", nil, []string{"phr", "phrh"}, object{"acr": "phr phrh"}, "acr", "want one of"},
		{"a list with the acr", nil, []string{"phr"}, object{"acr": []any{"phr"}}, "acr", "want one of"},
		{"a number that reads alike", nil, []string{"2"}, object{"acr": 2}, "acr", "want one of"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := verifierFor("HS256")
			v.MaxAge, v.ACR = test.maxAge, test.acr
			_, err := v.Verify(t.Context(), sign("HS256", test.changes), expected)
			if test.check == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantRefused(t, err, test.check, test.err)
		})
	}
}

// Two readers of one payload must not see two users, and a payload costs its
// length and no more.
func TestVerifyRefusesPayloadsThatReadersDisagreeOn(t *testing.T) {
	t.Parallel()
	good := text(goodClaims())
	with := func(members string) string { return strings.TrimSuffix(good, "}") + "," + members + "}" }
	for _, test := range []struct{ name, payload, err string }{
		{"sub twice", with(`"sub":"root"`), "twice"},
		{"email twice", with(`"email":"root@example.com"`), "twice"},
		{"sub twice, once escaped", with(`"\u0073ub":"root"`), "twice"},
		{"exp twice", with(`"exp":99999999999`), "twice"},
		{"a nested member twice", with(`"address":{"country":"A","country":"B"}`), "twice"},
		{"lists 10 000 deep", with(`"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)), "deep"},
		{"objects that never end", with(strings.Repeat(`"a":{`, 5_000)), "deep"},
		{"a second object", good + good, "JSON"},
		{"text after it", good + "x", "JSON"},
		{"a list", "[" + good + "]", "object"},
		{"a string", `"x"`, "object"},
		{"null", "null", "object"},
		{"nothing", "", "JSON"},
		{"bytes that are no text", with("\"name\":\"\xff\""), "UTF-8"},
		{"a byte order mark", "\ufeff" + good, "JSON"},
	} {
		for _, alg := range []string{"HS256", "ES256"} {
			t.Run(test.name+" "+alg, func(t *testing.T) {
				raw := compact(alg, keyFor(alg), text(goodHeader(alg)), test.payload)
				for _, want := range both {
					_, err := verifierFor(alg).Verify(t.Context(), raw, want)
					wantRefused(t, err, "payload", test.err)
				}
			})
		}
	}
	// RFC 7519 section 4: a name in another case is another claim, not a second
	// value of this one.
	raw := compact("HS256", secretKey(), `{"alg":"HS256"}`, with(`"SUB":"root","Sub":"root"`))
	got, err := verifierFor("HS256").Verify(t.Context(), raw, expected)
	if err != nil || got.String("sub") != testSubject {
		t.Errorf("got sub %q, %v; want the one that is spelled sub", got.String("sub"), err)
	}
}

func TestVerifyRefusesABrokenSignature(t *testing.T) {
	t.Parallel()
	for _, alg := range families {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			good := sign(alg, nil)
			part := strings.Split(good, ".")
			sig := unb64(t, part[2])
			flipped := func(at int, bit byte) string {
				s := slices.Clone(sig)
				s[at] ^= bit
				return b64(s)
			}
			payloadOf := strings.Split(sign(alg, object{"sub": "root"}), ".")[1]
			headerOf := b64([]byte(text(object{"alg": alg, "kid": "key-" + alg, "typ": "jwt"})))
			if Symmetric(alg) {
				headerOf = b64([]byte(text(object{"alg": alg, "typ": "jwt"})))
			}
			for name, raw := range map[string]string{
				"the last bit flipped":           part[0] + "." + part[1] + "." + flipped(len(sig)-1, 1),
				"the first bit flipped":          part[0] + "." + part[1] + "." + flipped(0, 0x80),
				"a bit in the middle flipped":    part[0] + "." + part[1] + "." + flipped(len(sig)/2, 4),
				"no signature":                   part[0] + "." + part[1] + ".",
				"a signature of zeros":           part[0] + "." + part[1] + "." + b64(make([]byte, len(sig))),
				"one byte less":                  part[0] + "." + part[1] + "." + b64(sig[:len(sig)-1]),
				"one byte more":                  part[0] + "." + part[1] + "." + b64(append(slices.Clone(sig), 0)),
				"twice":                          part[0] + "." + part[1] + "." + b64(append(slices.Clone(sig), sig...)),
				"the signature of other claims":  part[0] + "." + payloadOf + "." + part[2],
				"the signature of other headers": headerOf + "." + part[1] + "." + part[2],
			} {
				for _, want := range both {
					_, err := verifierFor(alg).Verify(t.Context(), raw, want)
					if err == nil {
						t.Errorf("%s: accepted", name)
						continue
					}
					wantRefused(t, err, "signature", "")
				}
			}
		})
	}
}

// CVE-2022-21449: a check that r and s are in range was missing, and zeros
// signed everything. A DER signature and one on another curve are no JWS
// signatures either (RFC 7518 section 3.4).
func TestVerifyRefusesForgedECDSASignatures(t *testing.T) {
	t.Parallel()
	order := p256Key().Params().N
	number := func(n *big.Int) string { return string(n.FillBytes(make([]byte, 32))) }
	input := b64([]byte(text(goodHeader("ES256")))) + "." + b64([]byte(text(goodClaims())))
	for name, sig := range map[string]string{
		"zeros":        number(new(big.Int)) + number(new(big.Int)),
		"r of zero":    number(new(big.Int)) + number(big.NewInt(1)),
		"s of zero":    number(big.NewInt(1)) + number(new(big.Int)),
		"the order":    number(order) + number(order),
		"ASN.1":        string(must(p256Key().Sign(nil, make([]byte, 32), algorithms["ES256"]))),
		"on P-384":     string(signature("ES256", p384Key(), input)),
		"by other key": string(signature("ES256", otherP256(), input)),
	} {
		_, err := verifierFor("ES256").Verify(t.Context(), input+"."+b64([]byte(sig)), expected)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantRefused(t, err, "signature", "")
	}
}

// OpenID Connect Core 3.1.3.7 item 7: the algorithm comes from the
// configuration. A header that says "none" is the oldest way past a verifier.
func TestVerifyRefusesNoneInEverySpelling(t *testing.T) {
	t.Parallel()
	headers := []string{
		`{"alg":"none"}`, `{"alg":"None"}`, `{"alg":"NONE"}`, `{"alg":"nOnE"}`, `{"alg":"none "}`, `{"alg":"none\u0000"}`, `{"alg":""}`, `{}`, `{"typ":"JWT"}`,
		`{"alg":null}`, `{"alg":1}`, `{"alg":["none"]}`, `{"alg":{"none":"none"}}`, `{"alg":true}`, `{"ALG":"none"}`,
		`{"alg":"RS256","alg":"none"}`, `{"alg":"none","alg":"RS256"}`, `{"alg":"none","ALG":"RS256"}`, `null`, `[]`, `"none"`, ``,
	}
	payload := b64([]byte(text(goodClaims())))
	for _, alg := range families {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			v := verifierFor(alg)
			genuine := strings.Split(sign(alg, nil), ".")[2]
			for _, header := range headers {
				for _, tail := range []string{"", ".", "." + genuine, "." + b64([]byte("none"))} {
					for _, want := range both {
						if c, err := v.Verify(t.Context(), b64([]byte(header))+"."+payload+tail, want); err == nil {
							t.Errorf("header %s, tail %.10q: accepted as %v", header, tail, c)
						}
					}
				}
			}
		})
	}
	// Not even a configuration that names it gets it from here.
	for _, alg := range []string{"HS256", "RS256"} {
		v := verifierFor(alg)
		v.Algorithms = append(v.Algorithms, "none")
		_, err := v.Verify(t.Context(), b64([]byte(`{"alg":"none"}`))+"."+payload+".", expected)
		wantRefused(t, err, "signature", "")
	}
	if Supported("none") || Supported("None") || Supported("") || Symmetric("HS1") || Symmetric("HS256 ") {
		t.Error("an algorithm without a signature counts as supported")
	}
}

// Every algorithm but the one that is configured is refused, also with the right
// key for it.
func TestVerifyRefusesAnAlgorithmThatIsNotConfigured(t *testing.T) {
	t.Parallel()
	for _, configured := range families {
		for _, used := range families {
			if configured == used {
				continue
			}
			for _, want := range both {
				_, err := verifierFor(configured).Verify(t.Context(), sign(used, nil), want)
				if err == nil {
					t.Errorf("%s configured, %s accepted", configured, used)
					continue
				}
				wantRefused(t, err, "alg", "want "+configured)
			}
		}
	}
	for _, spelling := range []string{"hs256", "HS256 ", " HS256", "HS-256", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"} {
		raw := compact("HS256", secretKey(), text(object{"alg": spelling}), text(goodClaims()))
		_, err := verifierFor("HS256").Verify(t.Context(), raw, expected)
		wantRefused(t, err, "alg", "want HS256")
	}
	v := verifierFor("HS256")
	v.Algorithms = nil
	_, err := v.Verify(t.Context(), sign("HS256", nil), expected)
	wantRefused(t, err, "alg", "")
}

// RFC 7515 sections 7.1 and 2: three parts in base64url, without padding, white
// space or line breaks, and nothing else. More than one spelling of a token
// makes lists of used or revoked ones worthless.
func TestVerifyRefusesOddSerialisations(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"HS256", "RS256", "ES256"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			good := sign(alg, nil)
			part := strings.Split(good, ".")
			flattened := text(object{"protected": part[0], "payload": part[1], "signature": part[2]})
			one := object{"protected": part[0], "signature": part[2]}
			unprotected := text(object{"header": object{"alg": alg, "kid": "key-" + alg}, "payload": part[1], "signature": part[2]})
			last := part[2][len(part[2])-1]
			// The bits of the last character beyond the last byte say nothing.
			alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			twin := good[:len(good)-1] + string(alphabet[strings.IndexByte(alphabet, last)^1])
			for name, raw := range map[string]string{
				"nothing":                          "",
				"a dot":                            ".",
				"two dots":                         "..",
				"one part":                         part[0],
				"two parts":                        part[0] + "." + part[1],
				"four parts":                       good + ".e30",
				"five parts, as an encrypted one":  good + ".e30.e30",
				"a dot before it":                  "." + good,
				"a dot after it":                   good + ".",
				"ten thousand dots":                strings.Repeat(".", 10_000),
				"a space before it":                " " + good,
				"a space after it":                 good + " ",
				"a line break after it":            good + "\n",
				"a line break inside":              good[:20] + "\r\n" + good[20:],
				"a line break in the signature":    good[:len(good)-5] + "\n" + good[len(good)-5:],
				"a tab inside":                     good[:20] + "\t" + good[20:],
				"padding":                          part[0] + "=." + part[1] + "." + part[2],
				"padding after it":                 good + "==",
				"the alphabet of plain base64":     strings.NewReplacer("-", "+", "_", "/").Replace(good) + "+/",
				"other bits beyond the last byte":  twin,
				"the payload taken out":            part[0] + ".." + part[2],
				"the header taken out":             "." + part[1] + "." + part[2],
				"with the word Bearer":             "Bearer " + good,
				"in quotes":                        `"` + good + `"`,
				"a NUL after it":                   good + "\x00",
				"a zero-width space":               good + "\u200b",
				"percent-encoded":                  strings.ReplaceAll(good, ".", "%2E"),
				"flattened JSON":                   flattened,
				"flattened JSON after white space": "\n" + flattened,
				"flattened JSON with two dots":     strings.Replace(flattened, "{", `{"a":"..",`, 1),
				"general JSON":                     text(object{"payload": part[1], "signatures": []any{one}}),
				"general JSON, two signatures":     text(object{"payload": part[1], "signatures": []any{object{"protected": part[0], "signature": "AA"}, one}}),
				"JSON with an unprotected header":  unprotected,
				"a header that is no JSON":         b64([]byte("alg=HS256")) + "." + part[1] + "." + part[2],
				"a header 10 000 deep":             b64([]byte(`{"a":`+strings.Repeat("[", 10_000))) + "." + part[1] + "." + part[2],
			} {
				if _, err := verifierFor(alg).Verify(t.Context(), raw, expected); err == nil {
					if name == "other bits beyond the last byte" && len(unb64(t, part[2]))%3 == 0 {
						continue // each character counts
					}
					t.Errorf("%s: accepted", name)
				}
			}
		})
	}
}

// countingKeys is a key set that must not be asked.
type countingKeys struct{ asked int }

func (k *countingKeys) VerifySignature(context.Context, string) ([]byte, error) {
	k.asked++
	return nil, errors.New("asked")
}

// CVE-2025-30204, CVE-2025-27144: a token must not cost more than its length.
func TestVerifyLooksAtNoTokenThatIsTooLarge(t *testing.T) {
	t.Parallel()
	keys := new(countingKeys)
	v := verifierFor("HS256")
	v.Keys = keys
	padding := strings.Repeat("A", MaxSize)
	for _, raw := range []string{
		padding + "A",
		sign("HS256", object{"picture": padding}),
		strings.Repeat(".", MaxSize+1),
		strings.Repeat("A", 32<<20),
		strings.Repeat(".", 32<<20),
	} {
		_, err := v.Verify(t.Context(), raw, expected)
		wantRefused(t, err, "size", "at most 65536")
	}
	for _, alg := range []string{"none", "RS256"} {
		_, _ = v.Verify(t.Context(), compact("RS256", rsaKey(), text(object{"alg": alg}), text(goodClaims())), expected)
	}
	if keys.asked != 0 {
		t.Errorf("the keys were asked %d times", keys.asked)
	}
	if _, err := verifierFor("HS256").Verify(t.Context(), sign("HS256", object{"picture": strings.Repeat("p", 40<<10)}), expected); err != nil {
		t.Errorf("a large profile: %v", err)
	}
}

// What an attacker writes into a token must not write lines into our log, nor
// fill it.
func TestVerifyErrorsStayShortAndOnOneLine(t *testing.T) {
	t.Parallel()
	evil := "\n\x1b[31mlevel=error \u2028" + strings.Repeat("x", 20_000)
	for _, raw := range []string{
		sign("HS256", object{"iss": evil}),
		sign("HS256", object{"aud": evil}),
		sign("HS256", object{"aud": []any{evil, evil, evil}}),
		sign("HS256", object{"azp": evil}),
		sign("HS256", object{"sub": evil}),
		sign("HS256", object{"nonce": evil}),
		compact("HS256", secretKey(), text(object{"alg": evil}), text(goodClaims())),
		compact("HS256", secretKey(), text(object{"alg": "HS256", "kid": []any{evil}}), text(goodClaims())),
		compact("HS256", secretKey(), text(object{"alg": "HS256", "x5c": evil}), text(goodClaims())),
		compact("HS256", secretKey(), text(object{"alg": []any{evil}}), text(goodClaims())),
	} {
		_, err := verifierFor("HS256").Verify(t.Context(), raw, expected)
		if err == nil {
			t.Errorf("accepted: %.80s", raw)
			continue
		}
		if line := err.Error(); len(line) > 1200 || strings.ContainsAny(line, "\n\r\x1b") {
			t.Errorf("%d bytes: %.200q", len(line), line)
		}
	}
}
