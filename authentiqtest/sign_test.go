// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tests tokens and keys against go-jose, which had no part in making the signatures.

package authentiqtest_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"hash"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

// keySet reads the provider's public keys.
func keySet(t *testing.T, b *browser) jose.JSONWebKeySet {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(b.get(authentiqtest.Keys, nil).body), &set); err != nil {
		t.Fatal(err)
	}
	return set
}

// verify checks a signature with the key that the header names.
func verify(t *testing.T, b *browser, alg, compact string) []byte {
	t.Helper()
	token, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		t.Fatal(err)
	}
	var key any = []byte(b.op.ClientSecret())
	if !strings.HasPrefix(alg, "HS") {
		set := keySet(t, b)
		found := set.Key(token.Signatures[0].Header.KeyID)
		if len(found) != 1 || found[0].Algorithm != alg || found[0].Use != "sig" || !found[0].IsPublic() {
			t.Fatalf("keys with kid %q: %v", token.Signatures[0].Header.KeyID, found)
		}
		key = found[0].Key
	}
	text, err := token.Verify(key)
	if err != nil {
		t.Fatalf("%s: %v", alg, err)
	}
	return text
}

func TestEveryAlgorithmVerifies(t *testing.T) {
	// go-jose has a minimum length for HMAC keys: that of the hash.
	op := newServer(t, authentiqtest.Config{ClientSecret: strings.Repeat("s3cret! ", 8)})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	sizes := map[string]func() hash.Hash{"256": sha256.New, "384": sha512.New384, "512": sha512.New}
	for _, alg := range []string{
		"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
	} {
		t.Run(alg, func(t *testing.T) {
			if err := op.SetSigningAlg(alg); err != nil {
				t.Fatal(err)
			}
			tokens := b.tokens()
			var claims map[string]any
			if err := json.Unmarshal(verify(t, b, alg, tokens["id_token"].(string)), &claims); err != nil {
				t.Fatal(err)
			}
			newHash := sizes[alg[2:]]
			if alg == "EdDSA" {
				newHash = sha512.New
			}
			h := newHash()
			h.Write([]byte(tokens["access_token"].(string)))
			equal(t, claims, "at_hash", base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:h.Size()/2]))

			offered := b.get(authentiqtest.Discovery, nil).json(t)["id_token_signing_alg_values_supported"].([]any)
			if !strings.Contains(strings.Join(texts(offered), " "), alg) {
				t.Errorf("discovery offers %v", offered)
			}
			signed, err := op.Sign(alg, nil, []byte(`not JSON`))
			if err != nil {
				t.Fatal(err)
			}
			if got := verify(t, b, alg, signed); string(got) != "not JSON" {
				t.Errorf("Sign: %s", got)
			}
		})
	}
}

func texts(list []any) []string {
	var out []string
	for _, value := range list {
		out = append(out, value.(string))
	}
	return out
}

func TestUnsigned(t *testing.T) {
	op := newServer(t, authentiqtest.Config{SigningAlg: "none"})
	op.SignInAs(authentiqtest.Alice)
	token := newBrowser(t, op).tokens()["id_token"].(string)
	if !strings.HasSuffix(token, ".") || part(t, token, 0)["alg"] != "none" {
		t.Errorf("%s", token)
	}
	absent(t, payload(t, token), "at_hash")
}

func TestRotateKeysReplacesAll(t *testing.T) {
	op := newServer(t, authentiqtest.Config{SigningAlg: "ES256"})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	old := keySet(t, b)
	if len(old.Keys) != 10 {
		t.Errorf("%d keys", len(old.Keys))
	}
	verify(t, b, "ES256", b.tokens()["id_token"].(string))
	op.RotateKeys()
	verify(t, b, "ES256", b.tokens()["id_token"].(string))
	now := keySet(t, b)
	for _, key := range old.Keys {
		if len(now.Key(key.KeyID)) != 0 {
			t.Errorf("%s is still there", key.KeyID)
		}
	}
}

func TestSignSendsTheHeaderAsGiven(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	token, err := op.Sign("ES256", map[string]any{"alg": "None", "crit": []string{"x"}}, []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	header := part(t, token, 0)
	equal(t, header, "alg", "None")
	absent(t, header, "kid", "typ")
	if sig := token[strings.LastIndex(token, ".")+1:]; len(sig) != 86 {
		t.Errorf("signature of %d characters", len(sig))
	}
}

func TestSignWithForeignKeys(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Repeat("x", 32)
	for alg, keys := range map[string][2]any{
		"HS256": {secret, []byte(secret)},
		"PS256": {rsaKey, &rsaKey.PublicKey},
		"ES384": {ecKey, &ecKey.PublicKey},
		"EdDSA": {edKey, edPublic},
	} {
		compact, err := op.SignWith(keys[0], alg, nil, []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		token, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.Verify(keys[1]); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	if _, err := op.SignWith(ecKey, "ES256", nil, nil); err != nil {
		t.Errorf("ES256 on P-384: %v", err)
	}
	for alg, key := range map[string]any{"RS256": ecKey, "ES256": rsaKey, "EdDSA": rsaKey, "HS256": 1, "XX256": "x", "": nil} {
		if _, err := op.SignWith(key, alg, nil, nil); err == nil || !strings.HasPrefix(err.Error(), "authentiqtest: ") {
			t.Errorf("%q with a %T: %v", alg, key, err)
		}
	}
	if _, err := op.Sign("RS256", map[string]any{"x": func() {}}, nil); err == nil {
		t.Error("a header that JSON can't say")
	}
}

func TestLogoutToken(t *testing.T) {
	for _, alg := range []string{"HS256", "RS256"} {
		op := newServer(t, authentiqtest.Config{SigningAlg: alg})
		b := newBrowser(t, op)
		token, err := op.LogoutToken("", "the sid", func(c map[string]any) { c["nonce"] = "wrong" })
		if err != nil {
			t.Fatal(err)
		}
		verify(t, b, alg, token)
		equal(t, part(t, token, 0), "typ", "logout+jwt")
		claims := payload(t, token)
		for name, want := range map[string]any{"iss": op.Issuer, "aud": op.ClientID(), "sid": "the sid", "nonce": "wrong"} {
			equal(t, claims, name, want)
		}
		absent(t, claims, "sub")
		if _, ok := claims["events"].(map[string]any)["http://schemas.openid.net/event/backchannel-logout"]; !ok {
			t.Errorf("events %v", claims["events"])
		}
	}
}
