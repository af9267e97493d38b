// SPDX-License-Identifier: Apache-2.0

// Package idtoken decides whether an ID token, or a logout token, may be
// believed. Everything in it is pure but for the key set, which may fetch.
//
// A signature check alone leaves most of OpenID Connect Core 3.1.3.7 to the
// caller: iss, aud, azp, exp, iat, sub, nonce, at_hash, c_hash, auth_time and acr. All
// of them are checked here on one strict decode, and that same decode is what
// is forwarded: two decoders that disagree about {"sub":"alice","SUB":"root"}
// are a way past any check.
package idtoken

import (
	"cmp"
	"context"
	"crypto"
	_ "crypto/sha256" // the hashes of at_hash and c_hash
	_ "crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// MaxSize is the largest token that is looked at, in bytes. It is checked
// before any parsing, so that a hostile token costs no more than its length.
const MaxSize = 64 << 10

// Unsigned is the algorithm of a token that nobody has signed (RFC 7518 section
// 3.6). A Verifier has it alone or not at all, and it counts only for an ID token
// that is Direct.
const Unsigned = "none"

// algorithms are those of signatures that a configuration may name, RFC 7518 section
// 3.1 and EdDSA of RFC 8037, with the hash that at_hash takes.
var algorithms = map[string]crypto.Hash{
	"HS256": crypto.SHA256, "HS384": crypto.SHA384, "HS512": crypto.SHA512,
	"RS256": crypto.SHA256, "RS384": crypto.SHA384, "RS512": crypto.SHA512,
	"ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512,
	"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512,
	"EdDSA": crypto.SHA512, // Ed25519; the spec names no hash, implementations agree on this one
}

// Supported reports whether tokens signed with alg can be verified.
func Supported(alg string) bool { _, ok := algorithms[alg]; return ok }

// Symmetric reports whether alg is an HMAC, keyed with the client secret.
func Symmetric(alg string) bool { return Supported(alg) && strings.HasPrefix(alg, "HS") }

// Public reports whether alg is a signature with a key that only the provider has.
func Public(alg string) bool { return Supported(alg) && !Symmetric(alg) }

// Error says which check a token failed. Its text is for the operator's log: it
// names the check and what was expected.
type Error struct {
	Check string // the header or claim that failed: "alg", "signature", "iss", "nonce", …
	Err   error
	token string // what it was to be, if no ID token
}

func (e *Error) Error() string {
	return cmp.Or(e.token, "ID token") + ": " + e.Check + ": " + e.Err.Error()
}
func (e *Error) Unwrap() error { return e.Err }

func fail(check, format string, args ...any) error {
	return &Error{Check: check, Err: fmt.Errorf(format, args...)}
}

// Verifier holds what a client expects of all its tokens.
type Verifier struct {
	Issuer     string      // compared byte for byte (item 2)
	ClientID   string      // must be in aud, and be azp where there is one (items 3 to 5)
	Algorithms []string    // from the configuration, never from the token (item 7, RFC 8725 section 3.1)
	Keys       oidc.KeySet // Secret or Remote, built for the same Algorithms
	Decrypter  *Decrypter  // where tokens have to be encrypted; nil: they must not be
	Skew       time.Duration
	Now        func() time.Time
	MaxAge     *time.Duration // the max_age that was asked for; auth_time is then required (item 13)
	ACR        []string       // the acr_values that were asked for; acr must be one of them (item 12)
}

// Expect holds what one sign-in expects of its token.
type Expect struct {
	Nonce       string   // must be equal (item 11)
	AccessToken string   // hashed for at_hash, where the token has one (section 3.1.3.8)
	Code        string   // hashed for c_hash, where the token has one (section 3.3.2.11)
	Front       bool     // it came through the browser, beside Code: c_hash has to be there
	Earlier     *Earlier // what the sign-in gave, for a token that a refresh has brought
	Direct      bool     // our own token request brought it, over TLS or from this machine; without that, Unsigned counts for nothing (item 6)
}

// Earlier is what a refreshed token has to agree with (section 12.2). Its nonce
// may be missing, and MaxAge and ACR are the sign-in's alone.
type Earlier struct {
	Claims claims.Claims // of the session: sub and auth_time count
	Issued int64         // iat of the first token, Unix seconds
}

// Verify checks raw and returns all its claims. A token that fails a check
// gives an *Error, keys that could not be fetched a *KeysUnavailableError.
func (v *Verifier) Verify(ctx context.Context, raw string, want Expect) (claims.Claims, error) {
	c, _, err := v.VerifySigned(ctx, raw, want)
	return c, err
}

// VerifySigned is Verify, and also returns the signed token, which an encrypted one
// has in it: that is what the provider takes as a hint (section 3.1.2.1).
func (v *Verifier) VerifySigned(ctx context.Context, raw string, want Expect) (c claims.Claims, signed string, err error) {
	if signed, err = v.unwrap(raw); err != nil {
		return nil, "", err
	}
	if c, err = v.verify(ctx, signed, want); err != nil {
		return nil, "", err
	}
	return c, signed, nil
}

func (v *Verifier) verify(ctx context.Context, raw string, want Expect) (claims.Claims, error) {
	h, err := readHeader(raw, v.Algorithms)
	if err != nil {
		return nil, err
	}
	if h.unsigned && !want.Direct {
		return nil, fail("alg", "a token that is not signed counts only where our own token request brings it, over https or from this machine")
	}
	if h.is(logoutType) {
		return nil, fail("typ", "is that of a logout token")
	}
	// What only a key of the provider's vouches for may come by way of a stranger:
	// a secret is the client's too, and without a signature nobody vouches.
	if want.Front && !Public(h.algorithm) {
		return nil, fail("alg", "%.20s is no signature of the provider's, and the token came through the browser", h.algorithm)
	}
	var c claims.Claims
	if h.unsigned {
		c, err = payload(raw)
	} else {
		c, _, err = v.signed(ctx, raw)
	}
	if err != nil {
		return nil, err
	}
	checks := []func(claims.Claims) error{v.issuer, v.audience, v.expiry, v.issuance, noLogout, subject, v.freshness}
	if want.Earlier != nil {
		checks[len(checks)-1] = want.Earlier.same
	}
	for _, check := range checks {
		if err := check(c); err != nil {
			return nil, err
		}
	}
	_, repeated := c["nonce"]
	if want.Earlier == nil || repeated {
		// An empty expectation must never equal an empty or missing nonce.
		if got, _ := c["nonce"].(string); want.Nonce == "" || subtle.ConstantTimeCompare([]byte(got), []byte(want.Nonce)) != 1 {
			return nil, fail("nonce", "is not that of this sign-in")
		}
	}
	if h.unsigned {
		return c, nil // without an algorithm at_hash and c_hash have no hash, and both tokens came in one answer
	}
	if err := halfHash(c, "at_hash", h.algorithm, want.AccessToken, "access token"); err != nil {
		return nil, err
	}
	if _, there := c["c_hash"]; want.Front && !there {
		return nil, fail("c_hash", "is missing, so nobody vouches for the code")
	}
	if want.Code == "" && !want.Front {
		return c, nil // a refresh has no code
	}
	if err := halfHash(c, "c_hash", h.algorithm, want.Code, "code"); err != nil {
		return nil, err
	}
	return c, nil
}

// signed returns the claims of a token whose header was read, if one of our keys
// has signed them, and the payload that they were read from.
func (v *Verifier) signed(ctx context.Context, raw string) (c claims.Claims, payload []byte, err error) {
	if payload, err = v.Keys.VerifySignature(ctx, raw); err != nil {
		var unavailable *KeysUnavailableError
		if errors.As(err, &unavailable) {
			return nil, nil, err
		}
		return nil, nil, fail("signature", "%w", err)
	}
	if c, err = claims.Decode(payload); err != nil {
		return nil, nil, fail("payload", "%w", err)
	}
	return c, payload, nil
}

// payload returns the claims of a token whose header was read and says that nobody
// has signed it.
func payload(raw string) (claims.Claims, error) {
	parts := strings.Split(raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, fail("format", "is no token in compact form")
	}
	c, err := claims.Decode(text)
	if err != nil {
		return nil, fail("payload", "%w", err)
	}
	return c, nil
}
