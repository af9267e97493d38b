// SPDX-License-Identifier: Apache-2.0

package idtoken

// This file holds the keys that vouch for a token: the client secret, or what
// the provider publishes at its jwks_uri.

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// MinSecret is the shortest client secret that may key alg, an HMAC, in bytes:
// RFC 7518 section 3.2 asks for a key as long as the hash. A shorter one can be
// guessed offline from a single token.
func MinSecret(alg string) int { return algorithms[alg].Size() }

// maxKeys bounds the keys that are kept of one key set.
const maxKeys = 64

var errNoKey = errors.New("no key of the issuer verifies it")

// ErrKeysStale is in the error of a token that a key may have signed which is not
// known here: it can't be fetched now, or the provider does not publish it yet.
var ErrKeysStale = errors.New("the key that it names is not known")

// ErrNotNow is in the error of such a token if it is not certain: no fetch was
// possible, or one that ended a moment ago keeps us from another.
var ErrNotNow = errors.New("whether the provider publishes it can't be told now")

// KeysUnavailableError says that the provider's keys could not be fetched, so
// that nothing can be said about the token.
type KeysUnavailableError struct{ Err error }

func (e *KeysUnavailableError) Error() string { return "the issuer's keys: " + e.Err.Error() }
func (e *KeysUnavailableError) Unwrap() error { return e.Err }

// Secret is the key set of tokens signed with the client secret.
type Secret struct {
	Key        []byte
	Algorithms []string
}

// VerifySignature implements oidc.KeySet.
func (s *Secret) VerifySignature(_ context.Context, raw string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, joseAlgorithms(s.Algorithms))
	if err != nil {
		return nil, fmt.Errorf("parsing: %w", err)
	}
	alg := jws.Signatures[0].Header.Algorithm
	if !Symmetric(alg) {
		return nil, errNoKey
	}
	if shortest := MinSecret(alg); len(s.Key) < shortest {
		return nil, fmt.Errorf("the client secret is shorter than the %d bytes of %s", shortest, alg)
	}
	return jws.Verify(s.Key)
}

// Fixed is a key set that does not change, such as one from a file. A key without
// a name of its own, as in PEM, is tried whatever kid a token has.
type Fixed struct {
	Keys       []jose.JSONWebKey
	Algorithms []string
}

// VerifySignature implements oidc.KeySet.
func (f *Fixed) VerifySignature(_ context.Context, raw string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, joseAlgorithms(f.Algorithms))
	if err != nil {
		return nil, fmt.Errorf("parsing: %w", err)
	}
	kid, alg := jws.Signatures[0].Header.KeyID, jws.Signatures[0].Header.Algorithm
	var keys []jose.JSONWebKey
	for _, key := range f.Keys {
		if (kid == "" || key.KeyID == "" || key.KeyID == kid) && fits(key, alg) {
			keys = append(keys, key)
		}
	}
	if payload, ok := verifyAny(jws, keys); ok {
		return payload, nil
	}
	return nil, errNoKey
}

// Remote is the key set that a provider publishes. It is safe for concurrent
// use.
//
// A token with an unknown kid causes one fetch, then none for CoolDown, so
// that nobody can make us hammer the provider, whatever it answers; a known kid
// with a bad signature causes none. A fetch that brought the key of that name does
// not count: only the provider can bring that about, and it may rotate again.
// Keys of an earlier fetch stay when a later one fails.
type Remote struct {
	Fetch    func(context.Context) ([]byte, error) // the JWK Set document
	CoolDown time.Duration
	Now      func() time.Time

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	loaded  bool
	asked   time.Time // when an unknown kid last caused a fetch in vain
	failure error     // of the latest fetch
	flight  *flight
}

// For returns the key set as tokens with these algorithms see it.
func (r *Remote) For(algorithms []string) *RemoteFor {
	return &RemoteFor{remote: r, algorithms: joseAlgorithms(algorithms)}
}

// RemoteFor is a Remote bound to the algorithms of one client.
type RemoteFor struct {
	remote     *Remote
	algorithms []jose.SignatureAlgorithm
}

// VerifySignature implements oidc.KeySet.
func (f *RemoteFor) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, f.algorithms)
	if err != nil {
		return nil, fmt.Errorf("parsing: %w", err)
	}
	// Only kid and alg are read of the header: a key that a token brings along
	// (jwk, jku, x5c, x5u) is an attacker's key.
	kid, alg := jws.Signatures[0].Header.KeyID, jws.Signatures[0].Header.Algorithm

	keys, loaded := f.remote.candidates(kid, alg)
	if payload, ok := verifyAny(jws, keys); ok {
		return payload, nil
	}
	if len(keys) > 0 && kid != "" {
		return nil, errNoKey
	}
	asked, err := f.remote.refresh(ctx)
	if err != nil {
		if loaded {
			return nil, fmt.Errorf("%w: %w, and %w: %w", errNoKey, ErrKeysStale, ErrNotNow, err)
		}
		return nil, &KeysUnavailableError{err}
	}
	keys, _ = f.remote.candidates(kid, alg)
	if payload, ok := verifyAny(jws, keys); ok {
		if kid != "" {
			f.remote.rotated()
		}
		return payload, nil
	}
	if kid != "" && len(keys) == 0 && asked {
		return nil, fmt.Errorf("%w: %w", errNoKey, ErrKeysStale)
	}
	if kid != "" && len(keys) == 0 {
		return nil, fmt.Errorf("%w: %w, and %w", errNoKey, ErrKeysStale, ErrNotNow)
	}
	return nil, errNoKey
}

func verifyAny(jws *jose.JSONWebSignature, keys []jose.JSONWebKey) ([]byte, bool) {
	for i := range keys {
		if payload, err := jws.Verify(keys[i].Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// candidates are the keys that may have signed a token with this header: those
// with its kid, or all that fit its algorithm when it names none (OpenID
// Connect Core 10.1).
func (r *Remote) candidates(kid, alg string) (keys []jose.JSONWebKey, loaded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range r.keys {
		if (kid == "" || key.KeyID == kid) && fits(key, alg) {
			keys = append(keys, key)
		}
	}
	return keys, r.loaded
}

// Lost reports whether the key that signed raw was published once and is no
// longer, as far as is known: an issuer may refuse a token of its own then.
func (r *Remote) Lost(raw string) bool {
	jws, err := jose.ParseSignedCompact(raw, joseAlgorithms(slices.Collect(maps.Keys(algorithms))))
	if err != nil || jws.Signatures[0].Header.KeyID == "" || Symmetric(jws.Signatures[0].Header.Algorithm) {
		return false
	}
	keys, loaded := r.candidates(jws.Signatures[0].Header.KeyID, jws.Signatures[0].Header.Algorithm)
	return loaded && len(keys) == 0
}

// Refresh fetches the keys now, whatever the cool-down says; the caller paces
// it. Concurrent calls share one fetch.
func (r *Remote) Refresh(ctx context.Context) error {
	r.mu.Lock()
	f := r.join(ctx)
	r.mu.Unlock()
	return f.wait(ctx)
}

// Seed takes up a document of an earlier run, unless one was fetched since.
func (r *Remote) Seed(document []byte) error {
	keys, err := parseKeys(document)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		r.keys, r.loaded = keys, true
	}
	return nil
}

// refresh is what a token with an unknown key may cause. While the cool-down
// lasts it only waits for a fetch that is under way, or says how the latest one
// ended; asked is false then.
func (r *Remote) refresh(ctx context.Context) (asked bool, err error) {
	r.mu.Lock()
	now := r.Now()
	resting := !r.asked.IsZero() && now.Sub(r.asked) < r.CoolDown
	if resting && r.flight == nil {
		defer r.mu.Unlock()
		return false, r.failure
	}
	if !resting {
		r.asked = now
	}
	f := r.join(ctx)
	r.mu.Unlock()
	return true, f.wait(ctx)
}

// rotated ends the cool-down: a fetch has brought the key that a token named.
func (r *Remote) rotated() {
	r.mu.Lock()
	r.asked = time.Time{}
	r.mu.Unlock()
}

// flight is one fetch that any number of callers wait for.
type flight struct {
	done chan struct{}
	err  error // readable once done is closed
}

func (f *flight) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.done:
		return f.err
	}
}

// join returns the fetch that is under way, or begins one. r.mu is held.
func (r *Remote) join(ctx context.Context) *flight {
	if r.flight != nil {
		return r.flight
	}
	f := &flight{done: make(chan struct{})}
	r.flight = f
	// The fetch serves everybody who waits, so it does not end with the request
	// of who came first; Fetch bounds its own time.
	ctx = context.WithoutCancel(ctx)
	go func() {
		document, err := r.Fetch(ctx)
		var keys []jose.JSONWebKey
		if err == nil {
			keys, err = parseKeys(document)
		}
		r.mu.Lock()
		if err == nil {
			r.keys, r.loaded = keys, true
		}
		f.err, r.failure, r.flight = err, err, nil
		r.mu.Unlock()
		close(f.done)
	}()
	return f
}

// parseKeys reads a JWK Set (RFC 7517 section 5). Members that are malformed,
// of an unknown type, too weak or not for signatures are passed over, so that
// one bad key does not lock everybody out; symmetric and private keys are never
// taken from a public document.
func parseKeys(document []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, fmt.Errorf("the key set is no JWK Set: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || !key.Valid() || !key.IsPublic() || (key.Use != "" && key.Use != "sig") {
			continue
		}
		var may struct { // section 4.3, which the library does not read
			Operations *[]string `json:"key_ops"`
		}
		if json.Unmarshal(raw, &may) != nil || (may.Operations != nil && !slices.Contains(*may.Operations, "verify")) {
			continue
		}
		if k, ok := key.Key.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
			continue
		}
		if keys = append(keys, key); len(keys) == maxKeys {
			break
		}
	}
	return keys, nil
}

// fits reports whether key may verify alg: the type of key that the algorithm
// needs (RFC 8725 section 3.1), on the curve that it names (RFC 7518 section
// 3.4), and no other algorithm declared for the key.
func fits(key jose.JSONWebKey, alg string) bool {
	if key.Algorithm != "" && key.Algorithm != alg {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return map[string]int{"ES256": 256, "ES384": 384, "ES512": 521}[alg] == k.Curve.Params().BitSize
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}
