// SPDX-License-Identifier: Apache-2.0

package idtoken

// What the tests sign with: keys made for the run, and a signer by hand, because
// a library that signs refuses just those tokens that a verifier must be shown.

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	testIssuer   = "https://op.example/"
	testClient   = "client-1"
	testSubject  = "Kr5Fu32zuf4-TqMLXU71fneqEPuQQSYtkM9tYb6UMsI"
	testNonce    = "n-0S6_WzA2MjTqMLXU71fneqEPuQQSYt"
	testAccess   = "SlAV32hkKG-access"
	testSkew     = time.Minute
	testUnixTime = 1_763_856_000
)

func testNow() time.Time { return time.Unix(testUnixTime, 0) }

// object is a JSON object that a test changes.
type object = map[string]any

// Keys are made once a run: RSA takes its time.
var (
	rsaKey      = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSAKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	p256Key     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384Key     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	p521Key     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	otherP256   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey       = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(nil); return must(k, err) })
	secretKey   = sync.OnceValue(func() []byte { b := make([]byte, 64); _, err := rand.Read(b); return must(b, err) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// keyFor is the right key for an algorithm.
func keyFor(alg string) any {
	switch alg {
	case "ES256":
		return p256Key()
	case "ES384":
		return p384Key()
	case "ES512":
		return p521Key()
	case "EdDSA":
		return edKey()
	}
	if Symmetric(alg) {
		return secretKey()
	}
	return rsaKey()
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func unb64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// signature signs input as alg says, with whatever key it is given.
func signature(alg string, key any, input string) []byte {
	hash := algorithms[alg]
	digest := func() []byte { h := hash.New(); h.Write([]byte(input)); return h.Sum(nil) }
	switch k := key.(type) {
	case []byte:
		mac := hmac.New(hash.New, k)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	case ed25519.PrivateKey:
		return ed25519.Sign(k, []byte(input))
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, digest())
		if err != nil {
			panic(err)
		}
		size := (k.Params().BitSize + 7) / 8
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		s.FillBytes(out[size:])
		return out
	case *rsa.PrivateKey:
		var opts crypto.SignerOpts = hash
		if strings.HasPrefix(alg, "PS") {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
		return must(k.Sign(rand.Reader, digest(), opts))
	}
	panic("no such key")
}

// compact writes header and payload as they are and signs them.
func compact(alg string, key any, header, payload string) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(signature(alg, key, input))
}

func text(v any) string { return string(must(json.Marshal(v))) }

// goodHeader is the header of a well-behaved token.
func goodHeader(alg string) object {
	h := object{"alg": alg, "typ": "JWT"}
	if !Symmetric(alg) {
		h["kid"] = "key-" + alg
	}
	return h
}

// goodClaims are those of a well-behaved token.
func goodClaims() object {
	return object{
		"iss": testIssuer, "aud": testClient, "sub": testSubject, "nonce": testNonce,
		"iat": testUnixTime - 5, "exp": testUnixTime + 300,
		"email": "alice@example.com", "email_verified": true,
	}
}

// sign makes a token from the good claims with some of them changed; a nil value
// leaves the claim out.
func sign(alg string, changes object) string {
	c := goodClaims()
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return compact(alg, keyFor(alg), text(goodHeader(alg)), text(c))
}

// public is the JWK of a private key.
func public(kid, alg string, key any) object {
	var jwk object
	raw := must(json.Marshal(jose.JSONWebKey{Key: key.(crypto.Signer).Public(), KeyID: kid, Algorithm: alg, Use: "sig"}))
	if err := json.Unmarshal(raw, &jwk); err != nil {
		panic(err)
	}
	return jwk
}

func jwks(keys ...any) []byte { return must(json.Marshal(object{"keys": keys})) }

// publisher is a jwks_uri: it counts, and a test can make it fail or wait.
type publisher struct {
	mu       sync.Mutex
	document []byte
	err      error
	fetches  int
	gate     chan struct{} // if set, a fetch ends when it is closed
}

func (p *publisher) fetch(context.Context) ([]byte, error) {
	p.mu.Lock()
	p.fetches++
	gate := p.gate
	p.mu.Unlock()
	if gate != nil {
		<-gate
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.document, p.err
}

func (p *publisher) publish(keys ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.document, p.err = jwks(keys...), nil
}

func (p *publisher) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = errors.New("the provider answered 500 Internal Server Error")
}

func (p *publisher) hold() (release func()) {
	gate := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = gate
	return sync.OnceFunc(func() {
		p.mu.Lock()
		p.gate = nil
		p.mu.Unlock()
		close(gate)
	})
}

func (p *publisher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

// published is a Remote of one document.
func published(document []byte) *Remote {
	return &Remote{
		Fetch:    func(context.Context) ([]byte, error) { return document, nil },
		CoolDown: time.Hour,
		Now:      testNow,
	}
}

// keysFor is the key set that vouches for alg.
func keysFor(alg string) oidc.KeySet {
	if alg == Unsigned {
		return nil // none is asked
	}
	if Symmetric(alg) {
		return &Secret{Key: secretKey(), Algorithms: []string{alg}}
	}
	return published(jwks(public("key-"+alg, alg, keyFor(alg)))).For([]string{alg})
}

func verifierFor(alg string) *Verifier {
	return &Verifier{
		Issuer: testIssuer, ClientID: testClient, Algorithms: []string{alg}, Keys: keysFor(alg),
		Skew: testSkew, Now: testNow,
	}
}

// What a token is held to at sign-in, and at a refresh of that sign-in.
var (
	expected  = Expect{Nonce: testNonce, AccessToken: testAccess}
	refreshed = Expect{Nonce: testNonce, AccessToken: testAccess, Earlier: &Earlier{Claims: object{"sub": testSubject}}}
	both      = []Expect{expected, refreshed}
)

// wantRefused fails the test unless err is that of this check and says text.
func wantRefused(t *testing.T, err error, check, text string) {
	t.Helper()
	if err == nil {
		t.Fatal("the token was accepted")
	}
	refused, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got a %T, want an *Error: %v", err, err)
	}
	if refused.Check != check || !strings.Contains(err.Error(), text) {
		t.Errorf("got check %q: %v; want check %q with %q", refused.Check, err, check, text)
	}
}
