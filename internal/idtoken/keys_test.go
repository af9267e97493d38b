// SPDX-License-Identifier: Apache-2.0

package idtoken

// Which key may vouch for a token, and what somebody who sends tokens can make
// the provider's key set do.

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// withKeys is the usual verifier with another key set.
func withKeys(alg string, keys oidc.KeySet) *Verifier {
	v := verifierFor(alg)
	v.Keys = keys
	return v
}

// CVE-2016-10555 and its kin: the public key that everybody knows, used as the
// secret of an HMAC.
func TestVerifyRefusesAPublicKeyUsedAsSecret(t *testing.T) {
	t.Parallel()
	pub := &rsaKey().PublicKey
	pkix, pkcs1 := must(x509.MarshalPKIXPublicKey(pub)), x509.MarshalPKCS1PublicKey(pub)
	pkixPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})
	pkcs1PEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1})
	document := jwks(public("key-RS256", "RS256", rsaKey()))
	for name, key := range map[string][]byte{
		"PKIX PEM":                    pkixPEM,
		"PKIX PEM without line break": pkixPEM[:len(pkixPEM)-1],
		"PKCS 1 PEM":                  pkcs1PEM,
		"PKCS 1 PEM without break":    pkcs1PEM[:len(pkcs1PEM)-1],
		"PKIX DER":                    pkix,
		"PKCS 1 DER":                  pkcs1,
		"JWK":                         []byte(text(public("key-RS256", "RS256", rsaKey()))),
		"JWK Set":                     document,
		"modulus":                     pub.N.Bytes(),
		"modulus in base64url":        []byte(b64(pub.N.Bytes())),
		"nothing":                     {},
		"key ID":                      []byte("key-RS256"),
	} {
		for _, alg := range []string{"HS256", "HS512"} {
			raw := compact(alg, key, text(object{"alg": alg, "kid": "key-RS256"}), text(goodClaims()))
			if _, err := verifierFor("RS256").Verify(t.Context(), raw, expected); err == nil {
				t.Errorf("%s: %s accepted where RS256 is configured", name, alg)
			}
			// Even a configuration that names both kinds gives the key set no secret,
			// and the secret no public key.
			both := []string{"RS256", alg}
			v := withKeys("RS256", published(document).For(both))
			v.Algorithms = both
			if _, err := v.Verify(t.Context(), raw, expected); err == nil {
				t.Errorf("%s: %s accepted from the key set", name, alg)
			}
			v.Keys = &Secret{Key: secretKey(), Algorithms: both}
			if _, err := v.Verify(t.Context(), raw, expected); err == nil {
				t.Errorf("%s: %s accepted with the secret", name, alg)
			}
			_, err := v.Verify(t.Context(), sign("RS256", nil), expected)
			wantRefused(t, err, "signature", "no key of the issuer")
		}
	}
}

// RFC 7518 section 3.2: a short secret is guessed offline from one token.
func TestSecretRefusesAKeyThatIsTooShort(t *testing.T) {
	t.Parallel()
	for alg, least := range map[string]int{"HS256": 32, "HS384": 48, "HS512": 64} {
		for _, size := range []int{0, 1, 16, 31, least - 1, least} {
			key := secretKey()[:size]
			if size == 0 {
				key = nil
			}
			v := withKeys(alg, &Secret{Key: key, Algorithms: []string{alg}})
			v.Algorithms = []string{alg}
			_, err := v.Verify(t.Context(), compact(alg, key, text(object{"alg": alg}), text(goodClaims())), expected)
			switch {
			case size == least && err != nil:
				t.Errorf("%s with %d bytes: %v", alg, size, err)
			case size < least && err == nil:
				t.Errorf("%s with %d bytes was accepted", alg, size)
			case size < least:
				wantRefused(t, err, "signature", fmt.Sprintf("shorter than the %d bytes of %s", least, alg))
			}
			if size >= 16 && err != nil && strings.Contains(err.Error(), string(key)) {
				t.Errorf("the error shows the secret: %v", err)
			}
		}
	}
	other := append([]byte("x"), secretKey()...)
	_, err := verifierFor("HS256").Verify(t.Context(), compact("HS256", other, `{"alg":"HS256"}`, text(goodClaims())), expected)
	wantRefused(t, err, "signature", "")
}

// RFC 8725 section 3.1 and RFC 7517: a key is for one kind of algorithm, and for
// what it says that it is for.
func TestRemoteRefusesAKeyThatIsNotForTheAlgorithm(t *testing.T) {
	t.Parallel()
	change := func(jwk object, name string, value any) object {
		if jwk[name] = value; value == nil {
			delete(jwk, name)
		}
		return jwk
	}
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	weak := must(rsa.GenerateKey(rand.Reader, 1024))
	oct := object{"kty": "oct", "kid": "k", "k": b64(secretKey())}
	private := object{}
	for name, value := range public("k", "RS256", rsaKey()) {
		private[name] = value
	}
	private["d"], private["p"], private["q"] = b64(rsaKey().D.Bytes()), b64(rsaKey().Primes[0].Bytes()), b64(rsaKey().Primes[1].Bytes())
	offCurve := public("k", "ES256", p256Key())
	offCurve["y"] = offCurve["x"]

	for _, test := range []struct {
		name, alg string
		key       any
		jwk       object
	}{
		{"a key for encryption", "RS256", rsaKey(), change(public("k", "RS256", rsaKey()), "use", "enc")},
		{"a key for an unknown use", "RS256", rsaKey(), change(public("k", "RS256", rsaKey()), "use", "SIG")},
		{"a key whose operation is to encrypt", "RS256", rsaKey(), change(change(public("k", "RS256", rsaKey()), "use", nil), "key_ops", []any{"encrypt", "wrapKey"})},
		{"a key for no operation", "RS256", rsaKey(), change(public("k", "RS256", rsaKey()), "key_ops", []any{})},
		{"a key for RS512", "RS256", rsaKey(), public("k", "RS512", rsaKey())},
		{"a key for PS256", "RS256", rsaKey(), public("k", "PS256", rsaKey())},
		{"a key for RS256, PS256 used", "PS256", rsaKey(), public("k", "RS256", rsaKey())},
		{"a key for RSA encryption", "RS256", rsaKey(), public("k", "RSA-OAEP", rsaKey())},
		{"a key for rs256", "RS256", rsaKey(), public("k", "rs256", rsaKey())},
		{"a key for HS256, which is RSA", "HS256", secretKey(), public("k", "HS256", rsaKey())},
		{"a key of 1024 bits", "RS256", weak, public("k", "RS256", weak)},
		{"a symmetric key", "HS256", secretKey(), oct},
		{"a symmetric key that says RS256", "HS256", secretKey(), change(oct, "alg", "RS256")},
		{"a private key", "RS256", rsaKey(), private},
		{"an elliptic curve for RS256", "RS256", rsaKey(), public("k", "", p256Key())},
		{"RSA for ES256", "ES256", p256Key(), public("k", "", rsaKey())},
		{"RSA for EdDSA", "EdDSA", edKey(), public("k", "", rsaKey())},
		{"Ed25519 for ES256", "ES256", p256Key(), public("k", "", edKey())},
		{"P-384 for ES256", "ES256", p384Key(), public("k", "", p384Key())},
		{"P-384 for ES256, declared so", "ES256", p384Key(), public("k", "ES256", p384Key())},
		{"P-256 for ES384", "ES384", p256Key(), public("k", "", p256Key())},
		{"P-224 for ES256", "ES256", p224, object{"kty": "EC", "crv": "P-224", "kid": "k", "x": b64(p224.X.FillBytes(make([]byte, 28))), "y": b64(p224.Y.FillBytes(make([]byte, 28)))}},
		{"a point off the curve", "ES256", p256Key(), offCurve},
		{"an RSA exponent of one", "RS256", rsaKey(), change(public("k", "RS256", rsaKey()), "e", "AQ")},
		{"an even RSA modulus", "RS256", rsaKey(), change(public("k", "RS256", rsaKey()), "n", b64(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes()))},
		{"another key ID", "RS256", rsaKey(), public("K", "RS256", rsaKey())},
		{"another key with the same ID", "RS256", rsaKey(), public("k", "RS256", otherRSAKey())},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := withKeys(test.alg, published(jwks(test.jwk)).For([]string{test.alg}))
			for _, header := range []object{{"alg": test.alg, "kid": "k"}, {"alg": test.alg}} {
				if test.jwk["kid"] == "K" && header["kid"] == nil {
					continue // without a kid any key may be tried
				}
				raw := compact(test.alg, test.key, text(header), text(goodClaims()))
				_, err := v.Verify(t.Context(), raw, expected)
				wantRefused(t, err, "signature", "no key of the issuer")
			}
		})
	}
}

// OpenID Connect Core 10.1: a provider with several keys names one; where it
// does not, each that fits is tried. One bad key locks nobody out.
func TestRemoteFindsTheKey(t *testing.T) {
	t.Parallel()
	good := public("k", "RS256", rsaKey())
	bare := public("k", "", rsaKey())
	delete(bare, "use")
	verifying := public("k", "", rsaKey())
	verifying["key_ops"] = []any{"verify"}
	tooMany := make([]any, 0, maxKeys+1)
	for i := range maxKeys {
		tooMany = append(tooMany, public(fmt.Sprint("p", i), "ES256", p256Key()))
	}
	for _, test := range []struct {
		name   string
		keys   []any
		header object
		err    string
	}{
		{"by its ID", []any{good}, object{"alg": "RS256", "kid": "k"}, ""},
		{"that says neither use nor algorithm", []any{bare}, object{"alg": "RS256", "kid": "k"}, ""},
		{"that is there to verify", []any{verifying}, object{"alg": "RS256", "kid": "k"}, ""},
		{"by its ID among others", []any{public("a", "RS256", otherRSAKey()), good, public("e", "ES256", p256Key())}, object{"alg": "RS256", "kid": "k"}, ""},
		{"the second of two with one ID", []any{public("k", "RS256", otherRSAKey()), good}, object{"alg": "RS256", "kid": "k"}, ""},
		{"one ID for keys of two kinds", []any{public("k", "ES256", p256Key()), good}, object{"alg": "RS256", "kid": "k"}, ""},
		{"no ID, one key", []any{good}, object{"alg": "RS256"}, ""},
		{"an empty ID, one key", []any{good}, object{"alg": "RS256", "kid": ""}, ""},
		{"no ID, two RSA and one EC", []any{public("e", "ES256", p256Key()), public("a", "RS256", otherRSAKey()), good}, object{"alg": "RS256"}, ""},
		{"no ID, no key that fits", []any{public("e", "ES256", p256Key())}, object{"alg": "RS256"}, "no key"},
		{"no ID, a key that fits and another's signature", []any{public("a", "RS256", otherRSAKey())}, object{"alg": "RS256"}, "no key"},
		{"no key at all", []any{}, object{"alg": "RS256", "kid": "k"}, "no key"},
		{"beside keys that are none", []any{
			nil, 1, "key", []any{}, object{}, object{"kty": "RSA"}, object{"kty": "ML-DSA", "kid": "k"},
			object{"kty": "RSA", "kid": "k", "n": "!", "e": "AQAB"}, object{"kty": "EC", "crv": "P-999", "kid": "k"},
			object{"kty": "oct", "kid": "k", "k": b64(secretKey())}, object{"kid": 1}, object{"kty": "RSA", "kid": "k", "n": "", "e": ""}, good,
		}, object{"alg": "RS256", "kid": "k"}, ""},
		{"beyond the last that is kept", append(tooMany, good), object{"alg": "RS256", "kid": "k"}, "no key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := withKeys("RS256", published(jwks(test.keys...)).For([]string{"RS256"}))
			_, err := v.Verify(t.Context(), compact("RS256", rsaKey(), text(test.header), text(goodClaims())), expected)
			if test.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantRefused(t, err, "signature", test.err)
		})
	}
}

// RFC 7515 section 4.1: a header may bring or point to a key. It is the
// attacker's (CVE-2026-27962), and fetching it would be his errand.
func TestVerifyTakesNoKeyFromTheToken(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		_, _ = w.Write(jwks(public("k", "RS256", otherRSAKey())))
	}))
	t.Cleanup(listener.Close)

	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: testNow().Add(time.Hour)}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &otherRSAKey().PublicKey, otherRSAKey()))
	certificate := base64.StdEncoding.EncodeToString(der)
	jwk := public("k", "RS256", otherRSAKey())
	for name, extra := range map[string]object{
		"jwk":                       {"jwk": jwk},
		"jwk with our kid":          {"jwk": jwk, "kid": "key-RS256"},
		"a symmetric jwk":           {"jwk": object{"kty": "oct", "k": b64(secretKey())}},
		"jku":                       {"jku": listener.URL + "/k"},
		"jku with our kid":          {"jku": listener.URL + "/k", "kid": "key-RS256"},
		"x5u":                       {"x5u": listener.URL + "/k"},
		"x5c":                       {"x5c": []any{certificate}},
		"x5c and x5t":               {"x5c": []any{certificate}, "x5t#S256": "AAAA", "kid": "key-RS256"},
		"all of them":               {"jwk": jwk, "jku": listener.URL, "x5u": listener.URL, "x5c": []any{certificate}},
		"a kid that is a path":      {"kid": "../../../../dev/null"},
		"a kid that is SQL":         {"kid": "' OR 1=1 --"},
		"a kid that is a URL":       {"kid": listener.URL + "/k"},
		"a kid that is a command":   {"kid": "k|id"},
		"a kid with a line break":   {"kid": "key-RS256\n"},
		"a kid with NUL":            {"kid": "key-RS256\x00"},
		"a kid in another case":     {"kid": "KEY-rs256"},
		"a kid of 10 kB":            {"kid": strings.Repeat("k", 10<<10)},
		"a kid that is a number":    {"kid": 1},
		"a kid that is a list":      {"kid": []any{"key-RS256"}},
		"a kid that is an object":   {"kid": object{"$ne": ""}},
		"a kid under another case":  {"KID": "key-RS256"},
		"an empty kid":              {"kid": ""},
		"issuer and keys as header": {"iss": testIssuer, "jwks": object{"keys": []any{jwk}}, "jwks_uri": listener.URL},
	} {
		header := goodHeader("RS256")
		delete(header, "kid")
		for field, value := range extra {
			header[field] = value
		}
		raw := compact("RS256", otherRSAKey(), text(header), text(goodClaims()))
		if _, err := verifierFor("RS256").Verify(t.Context(), raw, expected); err == nil {
			t.Errorf("%s: the attacker's key was taken", name)
		}
		header["alg"] = "HS256"
		raw = compact("HS256", secretKey()[1:], text(header), text(goodClaims()))
		if _, err := verifierFor("HS256").Verify(t.Context(), raw, expected); err == nil {
			t.Errorf("%s: the attacker's secret was taken", name)
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("the attacker's address was asked %d times", n)
	}
}

// RFC 7515 section 4.1.11: what a token calls critical must be understood, or it
// is refused (CVE-2025-59420). RFC 7797 section 7 keeps b64, the only extension
// that the library knows, out of JWTs.
func TestVerifyRefusesCriticalExtensions(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"HS256", "RS256", "ES256"} {
		for _, members := range []string{
			`"crit":["x"]`, `"crit":["x"],"x":true`, `"crit":["exp"],"exp":1`, `"crit":["alg"]`, `"crit":["typ","x"],"x":1`,
			`"crit":["http://example.com/UNDEFINED"],"http://example.com/UNDEFINED":true`,
			`"crit":[]`, `"crit":"x"`, `"crit":"b64"`, `"crit":{"x":1}`, `"crit":[1]`, `"crit":true`, `"crit":[["b64"]]`,
			`"crit":["b64"]`, `"crit":["b64"],"b64":true`, `"crit":["b64","x"],"b64":true`, `"crit":["B64"]`,
			`"b64":false`, `"b64":false,"crit":["b64"]`, `"b64":"false"`,
		} {
			header := strings.TrimSuffix(text(goodHeader(alg)), "}") + "," + members + "}"
			payload := text(goodClaims())
			part := strings.Split(compact(alg, keyFor(alg), header, payload), ".")
			unencoded := signature(alg, keyFor(alg), part[0]+"."+payload)
			for _, raw := range []string{strings.Join(part, "."), part[0] + "." + part[1] + "." + b64(unencoded)} {
				if _, err := verifierFor(alg).Verify(t.Context(), raw, expected); err == nil {
					t.Errorf("%s, %s: accepted", alg, members)
				}
			}
		}
	}
}

func TestRemoteReadsOnlyAKeySet(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"", "null", "[]", `"keys"`, "<html>", `{"keys":{}}`, `{"keys":"x"}`, `{"keys":[]}{}`, `{"keys":[}`, strings.Repeat("[", 100_000)} {
		remote := published([]byte(document))
		_, err := withKeys("RS256", remote.For([]string{"RS256"})).Verify(t.Context(), sign("RS256", nil), expected)
		if err == nil {
			t.Errorf("%.20q: accepted", document)
		}
	}
	for _, document := range []string{"", "<html>", "[]", `{"keys":"x"}`} {
		_, err := withKeys("RS256", published([]byte(document)).For([]string{"RS256"})).Verify(t.Context(), sign("RS256", nil), expected)
		if unavailable, ok := err.(*KeysUnavailableError); !ok || !strings.Contains(unavailable.Error(), "no JWK Set") {
			t.Errorf("%q: got %v, want keys that are unavailable", document, err)
		}
	}
}

// remoteWorld is a Remote with one good key, a publisher, and a clock that is
// that of the bubble it runs in.
func remoteWorld(t *testing.T) (*Remote, *publisher, *Verifier) {
	t.Helper()
	source := new(publisher)
	source.publish(public("key-RS256", "RS256", rsaKey()))
	remote := &Remote{Fetch: source.fetch, CoolDown: 30 * time.Second, Now: time.Now}
	return remote, source, withKeys("RS256", remote.For([]string{"RS256"}))
}

func withKid(key *rsa.PrivateKey, kid string) string {
	return compact("RS256", key, text(object{"alg": "RS256", "kid": kid}), text(goodClaims()))
}

func mustVerify(t *testing.T, v *Verifier, raw string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), raw, expected); err != nil {
		t.Errorf("a good token: %v", err)
	}
}

// Whoever can send us tokens must not make us hammer the provider.
func TestRemoteFetchesOnceACoolDownHoweverManyUnknownKeysAreNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, source, v := remoteWorld(t)
		good := sign("RS256", nil)
		mustVerify(t, v, good)
		if n := source.count(); n != 1 {
			t.Fatalf("the first token caused %d fetches", n)
		}
		forged := strings.Split(withKid(otherRSAKey(), "x"), ".")
		for round := range 3 {
			before := source.count()
			for i := range 1000 {
				kid := b64([]byte(fmt.Sprintf(`{"alg":"RS256","kid":"random-%d-%d"}`, round, i)))
				_, err := v.Verify(t.Context(), kid+"."+forged[1]+"."+forged[2], expected)
				wantRefused(t, err, "signature", "no key")
			}
			mustVerify(t, v, good)
			if n := source.count() - before; n > 1 {
				t.Errorf("1000 unknown keys caused %d fetches in one cool-down", n)
			}
			time.Sleep(31 * time.Second)
		}
		if n := source.count(); n > 4 {
			t.Errorf("3000 unknown keys caused %d fetches", n)
		}
	})
}

func TestRemoteFetchesNothingForABadSignatureOfAKnownKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		remote, source, v := remoteWorld(t)
		if err := remote.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		forged := withKid(otherRSAKey(), "key-RS256")
		for range 1000 {
			_, err := v.Verify(t.Context(), forged, expected)
			wantRefused(t, err, "signature", "no key")
		}
		if n := source.count(); n != 1 {
			t.Errorf("bad signatures caused %d fetches", n-1)
		}
		mustVerify(t, v, sign("RS256", nil))
	})
}

func TestRemoteKeepsItsKeysWhenTheProviderFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		remote, source, v := remoteWorld(t)
		good := sign("RS256", nil)
		mustVerify(t, v, good)
		for _, breakIt := range []func(){
			source.fail,
			func() { source.mu.Lock(); source.document, source.err = []byte("<html>"), nil; source.mu.Unlock() },
		} {
			breakIt()
			for round := range 3 {
				time.Sleep(31 * time.Second)
				before := source.count()
				for i := range 20 {
					_, err := v.Verify(t.Context(), withKid(otherRSAKey(), fmt.Sprint("random-", round, i)), expected)
					wantRefused(t, err, "signature", "no key")
				}
				if n := source.count() - before; n != 1 {
					t.Errorf("20 unknown keys at a broken provider caused %d fetches", n)
				}
				mustVerify(t, v, good)
			}
			if err := remote.Refresh(t.Context()); err == nil {
				t.Error("a failed refresh said nothing")
			}
			mustVerify(t, v, good)
		}
	})
}

// A provider whose keys were never read is not hammered either, and what is
// said about its tokens is that nothing can be said.
func TestRemoteWithoutKeysFetchesOnceACoolDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		remote, source, v := remoteWorld(t)
		source.fail()
		good := sign("RS256", nil)
		for range 100 {
			_, err := v.Verify(t.Context(), good, expected)
			if _, ok := err.(*KeysUnavailableError); !ok || !strings.Contains(err.Error(), "500 Internal Server Error") {
				t.Fatalf("got %v, want keys that are unavailable", err)
			}
		}
		if n := source.count(); n != 1 {
			t.Errorf("100 tokens caused %d fetches", n)
		}
		source.publish(public("key-RS256", "RS256", rsaKey()))
		if err := remote.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, v, good)
	})
	synctest.Test(t, func(t *testing.T) {
		_, source, v := remoteWorld(t)
		source.fail()
		good := sign("RS256", nil)
		_, _ = v.Verify(t.Context(), good, expected)
		source.publish(public("key-RS256", "RS256", rsaKey()))
		time.Sleep(31 * time.Second)
		mustVerify(t, v, good)
	})
}

// A slow provider holds up who needs its answer and nobody else.
func TestRemoteLetsKnownKeysPassWhileAFetchIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, source, v := remoteWorld(t)
		good := sign("RS256", nil)
		mustVerify(t, v, good)
		time.Sleep(31 * time.Second) // the cool-down of that first fetch
		release := source.hold()
		var waiting sync.WaitGroup
		for i := range 50 {
			waiting.Go(func() {
				if _, err := v.Verify(t.Context(), withKid(otherRSAKey(), fmt.Sprint("random-", i)), expected); err == nil {
					t.Error("accepted")
				}
			})
		}
		synctest.Wait() // all fifty wait for the slow answer
		if n := source.count(); n != 2 {
			t.Errorf("50 at once caused %d fetches", n-1)
		}
		mustVerify(t, v, good) // a bubble cannot go on here unless this returns
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		started := time.Now()
		if _, err := v.Verify(ctx, withKid(otherRSAKey(), "impatient"), expected); err == nil {
			t.Error("accepted")
		}
		if waited := time.Since(started); waited != time.Second {
			t.Errorf("waited %s with a deadline of 1s", waited)
		}
		release()
		waiting.Wait()
		if n := source.count(); n != 2 {
			t.Errorf("in all %d fetches", n-1)
		}
	})
}

// The one who came first may go: the others still get their keys.
func TestRemoteFetchOutlivesWhoCausedIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(publisher)
		source.publish(public("key-RS256", "RS256", rsaKey()))
		release := source.hold()
		remote := &Remote{CoolDown: 30 * time.Second, Now: time.Now}
		remote.Fetch = func(ctx context.Context) ([]byte, error) {
			document, err := source.fetch(ctx)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return document, err
		}
		v := withKeys("RS256", remote.For([]string{"RS256"}))
		first, leave := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if _, err := v.Verify(first, sign("RS256", nil), expected); err == nil {
				t.Error("the one who left got an answer")
			}
		})
		synctest.Wait()
		waiting.Go(func() { mustVerify(t, v, sign("RS256", nil)) })
		synctest.Wait()
		leave()
		synctest.Wait()
		release()
		waiting.Wait()
		if n := source.count(); n != 1 {
			t.Errorf("%d fetches for two callers", n)
		}
	})
}

// OpenID Connect Core 10.1.1: the first token with a new key brings it in, also
// right after the provider's keys were read, and an old key goes when it is gone
// there.
func TestRemoteFollowsARotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		remote, source, v := remoteWorld(t)
		old := sign("RS256", nil)
		mustVerify(t, v, old)
		time.Sleep(31 * time.Second)
		source.publish(public("new", "RS256", otherRSAKey()))
		mustVerify(t, v, withKid(otherRSAKey(), "new"))
		if n := source.count(); n != 2 {
			t.Errorf("a rotation took %d fetches", n-1)
		}
		_, err := v.Verify(t.Context(), old, expected)
		wantRefused(t, err, "signature", "no key")

		// A provider may rotate again at once, and again: each time is one fetch.
		time.Sleep(31 * time.Second) // that old token has used up the cool-down
		for _, kid := range []string{"second", "third"} {
			before := source.count()
			source.publish(public(kid, "RS256", rsaKey()))
			mustVerify(t, v, withKid(rsaKey(), kid))
			mustVerify(t, v, withKid(rsaKey(), kid))
			if n := source.count() - before; n != 1 {
				t.Errorf("a rotation right after another took %d fetches", n)
			}
		}

		// The attacker has used up the cool-down just before a rotation: it ends.
		time.Sleep(31 * time.Second)
		_, _ = v.Verify(t.Context(), withKid(otherRSAKey(), "random"), expected)
		source.publish(public("newer", "RS256", rsaKey()))
		newer := withKid(rsaKey(), "newer")
		_, err = v.Verify(t.Context(), newer, expected)
		wantRefused(t, err, "signature", "no key")
		time.Sleep(30 * time.Second)
		mustVerify(t, v, newer)

		// And whoever keeps the documents fresh does not wait for it.
		source.publish(public("newest", "RS256", otherRSAKey()))
		if err := remote.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, v, withKid(otherRSAKey(), "newest"))
	})
}

// A provider that rotates without naming keys is followed too.
func TestRemoteFollowsARotationWithoutKeyIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, source, v := remoteWorld(t)
		bare := func(key *rsa.PrivateKey) string {
			return compact("RS256", key, `{"alg":"RS256"}`, text(goodClaims()))
		}
		mustVerify(t, v, bare(rsaKey()))
		time.Sleep(31 * time.Second)
		source.publish(public("", "", otherRSAKey()))
		mustVerify(t, v, bare(otherRSAKey()))
		before := source.count()
		for range 100 {
			_, err := v.Verify(t.Context(), bare(rsaKey()), expected)
			wantRefused(t, err, "signature", "no key")
		}
		if n := source.count(); n != before {
			t.Errorf("bad signatures without a key ID caused %d fetches in the cool-down", n-before)
		}
	})
}

func TestRemoteServesManyAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		remote, source, v := remoteWorld(t)
		good := sign("RS256", nil)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { mustVerify(t, v, good) })
			all.Go(func() { _ = remote.Refresh(t.Context()) })
		}
		all.Wait()
		if n := source.count(); n > 100 {
			t.Errorf("%d fetches", n)
		}
	})
}
