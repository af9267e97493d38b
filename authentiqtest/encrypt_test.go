// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tests encrypted tokens and userinfo's JWTs, opened and verified by go-jose.

package authentiqtest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

// opened is what is in a token, and its header.
func opened(t *testing.T, key any, compact string) (string, jose.Header) {
	t.Helper()
	jwe, err := jose.ParseEncryptedCompact(compact,
		[]jose.KeyAlgorithm{jose.RSA_OAEP, jose.RSA_OAEP_256, jose.ECDH_ES, jose.ECDH_ES_A256KW, jose.DIRECT},
		[]jose.ContentEncryption{jose.A128CBC_HS256, jose.A256GCM})
	if err != nil {
		t.Fatalf("%v: %.60s", err, compact)
	}
	inside, err := jwe.Decrypt(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(inside), jwe.Header
}

func clientKeys(t *testing.T) (*rsa.PrivateKey, *ecdsa.PrivateKey) {
	t.Helper()
	pair, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair, ec
}

func TestTokensAreEncryptedForTheClient(t *testing.T) {
	pair, ec := clientKeys(t)
	for name, test := range map[string]struct {
		key      any
		e        authentiqtest.Encryption
		alg, enc string
	}{
		"RSA":              {pair, authentiqtest.Encryption{Key: &pair.PublicKey, KeyID: "k"}, "RSA-OAEP", "A128CBC-HS256"},
		"RSA with SHA-256": {pair, authentiqtest.Encryption{Key: &pair.PublicKey, Alg: "RSA-OAEP-256", Enc: "A256GCM"}, "RSA-OAEP-256", "A256GCM"},
		"EC":               {ec, authentiqtest.Encryption{Key: &ec.PublicKey}, "ECDH-ES", "A128CBC-HS256"},
		"EC with wrapping": {ec, authentiqtest.Encryption{Key: &ec.PublicKey, Alg: "ECDH-ES+A256KW"}, "ECDH-ES+A256KW", "A128CBC-HS256"},
	} {
		t.Run(name, func(t *testing.T) {
			op := newServer(t, authentiqtest.Config{SigningAlg: "ES256", Encryption: &test.e})
			op.SignInAs(authentiqtest.Alice)
			b := newBrowser(t, op)
			signed, header := opened(t, test.key, b.tokens()["id_token"].(string))
			if header.Algorithm != test.alg || header.ExtraHeaders["enc"] != test.enc || header.ExtraHeaders["cty"] != "JWT" || header.KeyID != test.e.KeyID {
				t.Errorf("the header is %+v", header)
			}
			var claims map[string]any
			if err := json.Unmarshal(verify(t, b, "ES256", signed), &claims); err != nil || claims["sub"] != authentiqtest.Alice {
				t.Errorf("%v, %v", claims, err)
			}
			// The signed token is the hint; what the client alone can open is none.
			if a := b.get(authentiqtest.EndSession, url.Values{"id_token_hint": {signed}}); !strings.Contains(a.body, "signed out") {
				t.Errorf("the hint was not taken: %.200s", a.body)
			}
			logout, err := op.LogoutToken(authentiqtest.Alice, "")
			if err != nil {
				t.Fatal(err)
			}
			signed, _ = opened(t, test.key, logout)
			verify(t, b, "ES256", signed)

			if err := op.SetEncryption(nil); err != nil {
				t.Fatal(err)
			}
			verify(t, b, "ES256", b.tokens()["id_token"].(string))
		})
	}
}

func TestUserinfoIsSignedAndEncryptedOnDemand(t *testing.T) {
	pair, _ := clientKeys(t)
	op := newServer(t, authentiqtest.Config{SigningAlg: "RS256", Encryption: &authentiqtest.Encryption{Key: &pair.PublicKey}, UserinfoSigningAlg: "RS256"})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	access := b.tokens()["access_token"].(string)
	asked := func(mediaType string) string {
		t.Helper()
		a := b.post(authentiqtest.Userinfo, url.Values{"access_token": {access}})
		if got := a.Header.Get("Content-Type"); got != mediaType {
			t.Errorf("it is %q, want %q: %.200s", got, mediaType, a.body)
		}
		return a.body
	}
	says := func(text []byte) (claims map[string]any) {
		t.Helper()
		if err := json.Unmarshal(text, &claims); err != nil || claims["sub"] != authentiqtest.Alice {
			t.Errorf("%s: %v", text, err)
		}
		return claims
	}
	if c := says(verify(t, b, "RS256", asked("application/jwt"))); c["iss"] != op.Issuer || c["aud"] != op.ClientID() {
		t.Errorf("%v", c)
	}
	for _, test := range []struct {
		alg       string
		encrypted bool
	}{{"RS256", true}, {"", true}, {"HS256", false}, {"", false}} {
		if err := op.SetUserinfo(test.alg, test.encrypted); err != nil {
			t.Fatal(err)
		}
		if test.alg == "" && !test.encrypted {
			says([]byte(asked("application/json")))
			continue
		}
		text := asked("application/jwt")
		if test.encrypted {
			text, _ = opened(t, pair, text)
		}
		if test.alg != "" {
			text = string(verify(t, b, test.alg, text))
		}
		if c := says([]byte(text)); (c["iss"] != nil) != (test.alg != "") {
			t.Errorf("%+v: %v", test, c)
		}
	}
}

func TestHooksReachEncryptedTokens(t *testing.T) {
	pair, _ := clientKeys(t)
	op := newServer(t, authentiqtest.Config{Encryption: &authentiqtest.Encryption{Key: &pair.PublicKey}, UserinfoEncrypted: true})
	op.SignInAs(authentiqtest.Alice)
	op.SetHooks(authentiqtest.Hooks{
		EncryptedHeader: func(h map[string]any) { h["cty"], h["crit"] = "x", []string{"y"} },
		Encrypted:       func(string) string { return "{}" },
	})
	b := newBrowser(t, op)
	tokens := b.tokens()
	jwe, err := jose.ParseEncryptedCompact(tokens["id_token"].(string), []jose.KeyAlgorithm{jose.RSA_OAEP}, []jose.ContentEncryption{jose.A128CBC_HS256})
	if err != nil || jwe.Header.ExtraHeaders["cty"] != "x" || jwe.Header.ExtraHeaders["crit"] == nil {
		t.Errorf("%+v, %v", jwe, err)
	}
	op.SetHooks(authentiqtest.Hooks{Encrypted: func(string) string { return "{}" }})
	if inside, _ := opened(t, pair, b.post(authentiqtest.Userinfo, url.Values{"access_token": {tokens["access_token"].(string)}}).body); inside != "{}" {
		t.Errorf("in it is %s", inside)
	}
	op.SetHooks(authentiqtest.Hooks{UserinfoHeader: func(h map[string]any) { h["typ"] = "x" }, UserinfoJWT: func(c string) string { return c + "x" }})
	if err := op.SetUserinfo("HS256", false); err != nil {
		t.Fatal(err)
	}
	if body := b.post(authentiqtest.Userinfo, url.Values{"access_token": {tokens["access_token"].(string)}}).body; !strings.HasSuffix(body, "x") || !strings.HasPrefix(body, "eyJhbGciOiJIUzI1NiIsInR5cCI6IngifQ.") {
		t.Errorf("it is %s", body)
	}
}

func TestEncryptionThatCantBeIsAnError(t *testing.T) {
	pair, ec := clientKeys(t)
	for name, cfg := range map[string]authentiqtest.Config{
		"no key":                    {Encryption: &authentiqtest.Encryption{}},
		"an algorithm of EC":        {Encryption: &authentiqtest.Encryption{Key: &pair.PublicKey, Alg: "ECDH-ES"}},
		"an algorithm of RSA":       {Encryption: &authentiqtest.Encryption{Key: &ec.PublicKey, Alg: "RSA-OAEP"}},
		"an encryption that is not": {Encryption: &authentiqtest.Encryption{Key: &pair.PublicKey, Enc: "x"}},
		"encrypted with nothing":    {UserinfoEncrypted: true},
		"signed by nothing":         {UserinfoSigningAlg: "x"},
		"a public client's secret":  {PublicClient: true, UserinfoSigningAlg: "HS256"},
	} {
		if op, err := authentiqtest.NewServer(cfg); err == nil {
			op.Close()
			t.Errorf("%s: started", name)
		}
	}
	op := newServer(t, authentiqtest.Config{})
	if op.SetEncryption(&authentiqtest.Encryption{Key: 1}) == nil || op.SetUserinfo("x", false) == nil {
		t.Error("a setter took what can't be")
	}
	if _, err := authentiqtest.Encrypt(authentiqtest.Encryption{Key: make([]byte, 32), Alg: "dir", Enc: "A256GCM"}, []byte("x"), map[string]any{"zip": true}); err != nil {
		t.Error(err)
	}
}
