// SPDX-License-Identifier: Apache-2.0

package idtoken

// Every kind of token by every algorithm, and what is wrong with some, in a table
// that says what and not how: testdata/tokens.json. They are signed and encrypted
// here, with keys of the run.

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// tokenCase is a row of the table.
type tokenCase struct {
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`         // id_token, logout_token, userinfo
	Alg         string   `json:"alg"`          // that signs it
	SigningAlg  []string `json:"signing_alg"`  // that is configured; Alg if empty
	Direct      bool     `json:"direct"`       // our own token request brings it
	Encrypt     []string `json:"encrypt"`      // alg and enc, for a key of ours
	MustEncrypt bool     `json:"must_encrypt"` // an encryption_key is configured all the same
	Header      object   `json:"header"`       // changes; null takes out
	Claims      object   `json:"claims"`       // changes; null takes out
	Signature   *string  `json:"signature"`    // in the place of the right one
	Check       string   `json:"check"`        // that refuses it; none if empty
}

// token is the token that a row describes.
func (c *tokenCase) token() string {
	header, body := goodHeader(c.Alg), goodClaims()
	switch c.Kind {
	case "logout_token":
		header, body = logoutHeader(c.Alg), goodLogout()
	case "userinfo":
		body = object{"iss": testIssuer, "aud": testClient, "sub": testSubject, "email": "alice@example.com"}
	}
	for from, to := range map[*object]object{&c.Header: header, &c.Claims: body} {
		maps.Copy(to, *from)
		maps.DeleteFunc(to, func(_ string, v any) bool { return v == nil })
	}
	var raw string
	if c.Alg == Unsigned {
		raw = b64([]byte(text(header))) + "." + b64([]byte(text(body))) + "."
	} else {
		raw = compact(c.Alg, keyFor(c.Alg), text(header), text(body))
	}
	if c.Signature != nil {
		raw = raw[:strings.LastIndexByte(raw, '.')+1] + *c.Signature
	}
	if c.Encrypt == nil {
		return raw
	}
	key := ours()[0]
	if !strings.HasPrefix(c.Encrypt[0], "RSA") {
		key = ours()[1]
	}
	return encrypt(key, c.Encrypt[0], c.Encrypt[1], raw, nested)
}

func TestTokensOfTheTable(t *testing.T) {
	t.Parallel()
	var cases []tokenCase
	if err := json.Unmarshal(must(os.ReadFile("testdata/tokens.json")), &cases); err != nil {
		t.Fatal(err)
	}
	covered := make(map[string]bool)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			alg := c.Alg
			if len(c.SigningAlg) > 0 {
				alg = c.SigningAlg[0]
			}
			v := verifierFor(alg)
			if c.Encrypt != nil || c.MustEncrypt {
				v.Decrypter = decrypterOf(ours()...)
			}
			want := expected
			want.Direct = c.Direct
			var sub string
			var err error
			switch c.Kind {
			case "id_token":
				got, failed := v.Verify(t.Context(), c.token(), want)
				sub, err = got.String("sub"), failed
			case "logout_token":
				got, failed := v.VerifyLogout(t.Context(), c.token(), LogoutOptions{})
				if err = failed; err == nil {
					sub = got.Subject
				}
			case "userinfo":
				got, failed := v.VerifyUserinfo(t.Context(), c.token())
				sub, err = got.String("sub"), failed
			}
			if c.Check != "" {
				wantRefused(t, err, c.Check, "")
				return
			}
			if err != nil || sub != testSubject {
				t.Errorf("%q, %v", sub, err)
			}
		})
		if c.Check == "" && c.Encrypt == nil {
			covered[c.Kind+" "+c.Alg] = true
		}
	}
	for alg := range algorithms {
		for _, kind := range []string{"id_token", "logout_token", "userinfo"} {
			if !covered[kind+" "+alg] {
				t.Errorf("the table has no good %s by %s", kind, alg)
			}
		}
	}
}

// Where signatures are not asked for, nothing but the one header and the one form
// without a signature passes.
func TestATokenWithoutASignatureHasOneForm(t *testing.T) {
	t.Parallel()
	v := verifierFor(Unsigned)
	direct := expected
	direct.Direct = true
	body := b64([]byte(text(goodClaims())))
	good := b64([]byte(`{"alg":"none"}`))
	if _, err := v.Verify(t.Context(), good+"."+body+".", direct); err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{
		good + "." + body, good + "." + body + "..", good + "." + body + ".AA", good + "." + body + ".\n", "." + body + ".", good + "..", "..",
		good + "." + body + "=.", good + "=." + body + ".", good + "\n." + body + ".", strings.ToUpper(good) + "." + body + ".",
		b64([]byte(`{"alg":"none","alg":"none"}`)) + "." + body + ".", b64([]byte(`{"alg":"RS256","alg":"none"}`)) + "." + body + ".",
		b64([]byte(`["none"]`)) + "." + body + ".", b64([]byte(`"none"`)) + "." + body + ".", b64([]byte(`{"alg":"none"}x`)) + "." + body + ".",
		good + "." + b64([]byte(`{"sub":"alice","sub":"root"}`)) + ".", good + "." + b64([]byte(`[]`)) + ".",
		good + "." + b64([]byte(strings.Repeat("[", 10_000))) + ".", good + "." + strings.Repeat("A", MaxSize) + ".",
	} {
		if c, err := v.Verify(t.Context(), raw, direct); err == nil {
			t.Errorf("%.80q: accepted as %v", raw, c)
		}
	}
	// With any other algorithm beside it, none is none at all.
	for _, both := range [][]string{{"none", "RS256"}, {"RS256", "none"}, {"none", "none"}, {"None"}, {""}} {
		v := verifierFor("RS256")
		v.Algorithms = both
		if _, err := v.Verify(t.Context(), good+"."+body+".", direct); err == nil {
			t.Errorf("accepted with signing_alg %q", both)
		}
	}
}

// Encrypted answers of userinfo need not be signed: our own request brought them.
func TestUserinfoMayBeEncryptedAlone(t *testing.T) {
	t.Parallel()
	said := text(object{"sub": testSubject, "email": "alice@example.com"})
	seal := func(inside string, header object) string {
		return encrypt(ours()[1], "ECDH-ES", "A256GCM", inside, header)
	}
	v := verifierFor("RS256")
	v.Decrypter = decrypterOf(ours()[:2]...)
	for name, raw := range map[string]string{
		"without cty":                  seal(said, nil),
		"with cty":                     seal(said, object{"cty": "json"}),
		"with a cty in full":           seal(said, object{"cty": "application/json"}),
		"white space before it":        seal("\n "+said, nil),
		"a signed token, without cty":  seal(compact("RS256", rsaKey(), text(goodHeader("RS256")), text(object{"iss": testIssuer, "aud": testClient, "sub": testSubject})), nil),
		"a signed token in upper case": seal(compact("RS256", rsaKey(), text(goodHeader("RS256")), text(object{"iss": testIssuer, "aud": testClient, "sub": testSubject})), object{"cty": "JWT"}),
	} {
		if c, err := v.VerifyUserinfo(t.Context(), raw); err != nil || c["sub"] != testSubject {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	for name, raw := range map[string]string{
		"claims twice":                      seal(`{"sub":"alice","sub":"root"}`, nil),
		"a list":                            seal(`[{"sub":"alice"}]`, nil),
		"a list that says it is JSON":       seal(`[{"sub":"alice"}]`, object{"cty": "json"}),
		"claims that are to be a token":     seal(said, nested),
		"a token that is to be claims":      seal(sign("RS256", nil), object{"cty": "json"}),
		"another type":                      seal(said, object{"cty": "text/plain"}),
		"twice encrypted":                   seal(seal(said, nil), nil),
		"twice encrypted, as a token":       seal(seal(said, nil), nested),
		"an ID token":                       seal(sign("RS256", nil), nested),
		"signed by somebody else":           seal(compact("RS256", otherRSAKey(), text(goodHeader("RS256")), text(object{"iss": testIssuer, "aud": testClient, "sub": testSubject})), nested),
		"encrypted for somebody else":       encrypt(ours()[3], "ECDH-ES", "A128GCM", said, nil),
		"signed by nobody":                  seal(b64([]byte(`{"alg":"none"}`))+"."+b64([]byte(said))+".", nil),
		"too large":                         strings.Repeat("A", MaxSize) + "....",
		"JSON that is called a JWT":         said,
		"an answer that is cut off":         seal(said, nil)[:100],
		"five parts of nothing":             "....",
		"a token and what is after it":      sign("RS256", nil) + "&x=1",
		"HS256 by the text of a public key": compact("HS256", jwks(public("k", "RS256", rsaKey())), text(goodHeader("HS256")), said),
	} {
		if c, err := v.VerifyUserinfo(t.Context(), raw); err == nil {
			t.Errorf("%s: %v", name, c)
		} else if !strings.HasPrefix(err.Error(), "the JWT: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	v.Decrypter = nil
	_, err := v.VerifyUserinfo(t.Context(), seal(said, nil))
	wantRefused(t, err, "decryption", "no encryption_key")
	// Nor does one of the three kinds pass for another.
	info := tokenCase{Kind: "userinfo", Alg: "RS256", Claims: object{"iat": testUnixTime, "exp": testUnixTime + 60}}
	if _, err := v.Verify(t.Context(), info.token(), expected); err == nil {
		t.Error("userinfo signs in")
	}
	if _, err := v.VerifyLogout(t.Context(), info.token(), LogoutOptions{}); err == nil {
		t.Error("userinfo signs out")
	}
	for _, raw := range []string{sign("RS256", nil), signLogout("RS256", nil)} {
		if _, err := v.VerifyUserinfo(t.Context(), raw); err == nil {
			t.Errorf("userinfo: accepted %.60q", raw)
		}
	}
}

// RFC 8725 section 3.1: what a signature is by is settled before it is looked at, on
// every way that a token comes (attack 63).
func TestAChangedSignatureIsRefusedOnEveryWay(t *testing.T) {
	t.Parallel()
	for _, alg := range families {
		for _, kind := range []string{"id_token", "logout_token", "userinfo"} {
			raw := (&tokenCase{Kind: kind, Alg: alg}).token()
			other := (&tokenCase{Kind: kind, Alg: alg, Claims: object{"x": 1}}).token()
			input, signed := raw[:strings.LastIndexByte(raw, '.')], unb64(t, raw[strings.LastIndexByte(raw, '.')+1:])
			last, first := slices.Clone(signed), slices.Clone(signed)
			last[len(last)-1] ^= 1
			first[0] ^= 1
			for name, sig := range map[string]string{
				"its last byte changed": b64(last), "its first byte changed": b64(first), "cut": b64(signed[:len(signed)-1]), "empty": "",
				"of another text": other[strings.LastIndexByte(other, '.')+1:],
			} {
				for _, sealed := range []bool{false, true} {
					token, v := input+"."+sig, verifierFor(alg)
					if sealed {
						v.Decrypter = decrypterOf(ours()...)
						token = encrypt(ours()[1], "ECDH-ES", "A128GCM", token, nested)
					}
					var err error
					switch kind {
					case "id_token":
						for _, want := range both {
							if _, err = v.Verify(t.Context(), token, want); err == nil {
								break
							}
						}
					case "logout_token":
						_, err = v.VerifyLogout(t.Context(), token, LogoutOptions{})
					case "userinfo":
						_, err = v.VerifyUserinfo(t.Context(), token)
					}
					if err == nil {
						t.Errorf("%s by %s, encrypted %t: a signature with %s was accepted", kind, alg, sealed, name)
						continue
					}
					wantRefused(t, err, "signature", "")
				}
			}
		}
	}
}
