// SPDX-License-Identifier: Apache-2.0

package idtoken

import (
	"maps"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

var audiences = []string{testClient, "https://provider.example/"}

// statement makes the JWT of a signer.
func statement(alg string, changes object) string {
	c := object{"iss": testIssuer, "iat": testUnixTime - 5, "exp": testUnixTime + 300, "employee_number": "E-1"}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return compact(alg, keyFor(alg), text(goodHeader(alg)), text(c))
}

func TestStatementsThatAreBelieved(t *testing.T) {
	for name, raw := range map[string]string{
		"ES256":                               statement("ES256", nil),
		"RS256":                               statement("RS256", nil),
		"PS256":                               statement("PS256", nil),
		"EdDSA":                               statement("EdDSA", nil),
		"without exp":                         statement("ES256", object{"exp": nil}),
		"without iat":                         statement("ES256", object{"iat": nil}),
		"over, within the skew":               statement("ES256", object{"exp": testUnixTime - 59}),
		"for this client":                     statement("ES256", object{"aud": testClient}),
		"for the provider":                    statement("ES256", object{"aud": "https://provider.example/"}),
		"for several":                         statement("ES256", object{"aud": []string{"other", testClient}}),
		"with the signer's own sub":           statement("ES256", object{"sub": "4711"}),
		"with a sub that would be none of us": statement("ES256", object{"sub": 7}),
		"without typ":                         compact("ES256", p256Key(), `{"alg":"ES256","kid":"key-ES256"}`, text(object{"iss": testIssuer, "iat": testUnixTime})),
		"without kid":                         compact("ES256", p256Key(), `{"alg":"ES256"}`, text(object{"iss": testIssuer, "iat": testUnixTime})),
	} {
		t.Run(name, func(t *testing.T) {
			iss, err := Issuer(raw)
			if err != nil || iss != testIssuer {
				t.Errorf("Issuer: %q %v", iss, err)
			}
			h, err := readHeader(raw, []string{"ES256", "RS256", "PS256", "EdDSA"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := verifierFor(h.algorithm).VerifyStatement(t.Context(), raw, audiences); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStatementsThatAreRefused(t *testing.T) {
	header := func(h object) string {
		return compact("ES256", p256Key(), text(h), text(object{"iss": testIssuer, "iat": testUnixTime}))
	}
	for name, c := range map[string]struct{ raw, check, says string }{
		"another signer":                      {statement("ES256", object{"iss": "https://other.example/"}), "iss", "other.example"},
		"no signer":                           {statement("ES256", object{"iss": nil}), "iss", ""},
		"another key":                         {compact("ES256", otherP256(), text(goodHeader("ES256")), text(object{"iss": testIssuer, "iat": testUnixTime})), "signature", "no key of the issuer"},
		"another algorithm":                   {statement("RS256", nil), "alg", "ES256"},
		"an HMAC":                             {statement("HS256", nil), "alg", ""},
		"over":                                {statement("ES256", object{"exp": testUnixTime - 61}), "exp", "expired"},
		"neither exp nor iat":                 {statement("ES256", object{"exp": nil, "iat": nil}), "exp", "iat"},
		"an exp that is null, and no iat":     {compact("ES256", p256Key(), text(goodHeader("ES256")), `{"iss":"`+testIssuer+`","exp":null}`), "exp", ""},
		"an exp that is no time":              {statement("ES256", object{"exp": "never"}), "exp", "no number"},
		"an iat that is no time":              {statement("ES256", object{"iat": "now"}), "iat", "no number"},
		"of the future":                       {statement("ES256", object{"iat": testUnixTime + 61}), "iat", "ahead"},
		"not valid yet":                       {statement("ES256", object{"nbf": testUnixTime + 61}), "nbf", "ahead"},
		"not valid yet, without iat":          {statement("ES256", object{"iat": nil, "nbf": testUnixTime + 61}), "nbf", "ahead"},
		"for another":                         {statement("ES256", object{"aud": "other"}), "aud", ""},
		"for nobody":                          {statement("ES256", object{"aud": []string{}}), "aud", ""},
		"for nobody, as null":                 {compact("ES256", p256Key(), text(goodHeader("ES256")), `{"iss":"`+testIssuer+`","iat":1,"aud":null}`), "aud", ""},
		"an ID token":                         {statement("ES256", object{"nonce": "n"}), "nonce", "ID token"},
		"an ID token without nonce":           {statement("ES256", object{"at_hash": "n"}), "nonce", "ID token"},
		"an ID token whose nonce is null":     {compact("ES256", p256Key(), text(goodHeader("ES256")), `{"iss":"`+testIssuer+`","iat":1,"nonce":null}`), "nonce", "ID token"},
		"a logout token":                      {statement("ES256", object{"events": object{logoutEvent: object{}}}), "events", ""},
		"a logout token by its type":          {header(object{"alg": "ES256", "typ": "logout+jwt"}), "typ", ""},
		"an access token":                     {header(object{"alg": "ES256", "typ": "application/at+jwt"}), "typ", ""},
		"an extension":                        {header(object{"alg": "ES256", "crit": []string{"exp"}, "exp": 1}), "header", ""},
		"a payload that is no object":         {compact("ES256", p256Key(), text(goodHeader("ES256")), `["x"]`), "payload", ""},
		"a member twice":                      {compact("ES256", p256Key(), text(goodHeader("ES256")), `{"iss":"`+testIssuer+`","iat":1,"a":1,"a":2}`), "payload", "twice"},
		"nothing":                             {"", "format", ""},
		"unsigned":                            {b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{}`)) + ".", "alg", ""},
		"a key that the token brings with it": {compact("ES256", otherP256(), text(object{"alg": "ES256", "jwk": public("x", "ES256", otherP256())}), text(object{"iss": testIssuer, "iat": testUnixTime})), "signature", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifierFor("ES256").VerifyStatement(t.Context(), c.raw, audiences)
			wantRefused(t, err, c.check, c.says)
		})
	}
}

func TestAStatementIsNoIDTokenAndTheOtherWayRound(t *testing.T) {
	if _, err := verifierFor("ES256").Verify(t.Context(), statement("ES256", object{"aud": testClient, "sub": testSubject}), expected); err == nil {
		t.Error("a signer's statement signs somebody in")
	}
	_, err := verifierFor("ES256").VerifyStatement(t.Context(), sign("ES256", nil), audiences)
	wantRefused(t, err, "nonce", "")
}

func TestKeysOfAFile(t *testing.T) {
	named := jose.JSONWebKey{Key: p256Key().Public(), KeyID: "key-ES256"}
	other := jose.JSONWebKey{Key: otherP256().Public(), KeyID: "other"}
	nameless := jose.JSONWebKey{Key: p256Key().Public()}
	elsewhere := jose.JSONWebKey{Key: p256Key().Public(), KeyID: "elsewhere"}
	forOther := jose.JSONWebKey{Key: p256Key().Public(), Algorithm: "ES384"}
	for name, c := range map[string]struct {
		keys []jose.JSONWebKey
		good bool
	}{
		"by its name":           {[]jose.JSONWebKey{other, named}, true},
		"without a name":        {[]jose.JSONWebKey{other, nameless}, true},
		"under another name":    {[]jose.JSONWebKey{elsewhere}, false},
		"for another algorithm": {[]jose.JSONWebKey{forOther}, false},
		"of another":            {[]jose.JSONWebKey{other}, false},
		"of another kind":       {[]jose.JSONWebKey{{Key: rsaKey().Public()}}, false},
		"none":                  {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			set := &Fixed{Keys: c.keys, Algorithms: []string{"ES256"}}
			if _, err := set.VerifySignature(t.Context(), statement("ES256", nil)); (err == nil) != c.good {
				t.Errorf("%v, want good: %v", err, c.good)
			}
			set.Algorithms = []string{"RS256"}
			if _, err := set.VerifySignature(t.Context(), statement("ES256", nil)); err == nil {
				t.Error("an algorithm that is not wanted is taken")
			}
		})
	}
}
