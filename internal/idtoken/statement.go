// SPDX-License-Identifier: Apache-2.0

package idtoken

// This file decides whether a JWT may be believed that somebody else than the
// provider has signed: the source of an aggregated or distributed claim (OpenID
// Connect Core section 5.6.2).

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// Issuer returns the iss of a JWT that nobody has verified: whose keys it is to
// be held to. A token without one gives an *Error.
func Issuer(raw string) (string, error) {
	if len(raw) > MaxSize {
		return "", about("signed claims", fail("size", "%d bytes, at most %d are read", len(raw), MaxSize))
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || !canonical(raw) {
		return "", about("signed claims", fail("format", "is no signed token in compact form"))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", about("signed claims", fail("format", "is no signed token in compact form"))
	}
	c, err := claims.Decode(payload)
	if err != nil {
		return "", about("signed claims", fail("payload", "%w", err))
	}
	if c.String("iss") == "" {
		return "", about("signed claims", fail("iss", "is missing or no string"))
	}
	return c.String("iss"), nil
}

// VerifyStatement checks a JWT of the issuer of v, which need not be about a
// sign-in: exp, iat and nbf hold where they are there, and one of exp and iat has
// to be. An aud has to name one of audiences; ClientID is not looked at. sub is the
// signer's own name of whoever it is about (section 5.6.2), so it says nothing here.
//
// A JWT that fails a check gives an *Error, keys that could not be fetched a
// *KeysUnavailableError.
func (v *Verifier) VerifyStatement(ctx context.Context, raw string, audiences []string) (claims.Claims, error) {
	c, err := v.verifyStatement(ctx, raw, audiences)
	return c, about("signed claims", err)
}

func (v *Verifier) verifyStatement(ctx context.Context, raw string, audiences []string) (claims.Claims, error) {
	h, err := readHeader(raw, v.Algorithms)
	if err != nil {
		return nil, err
	}
	if Symmetric(h.algorithm) {
		return nil, fail("alg", "who can verify it could have made it")
	}
	// A type that is named is another one: an access token (RFC 9068), a logout
	// token, a security event (RFC 8725 section 3.11).
	if h.typ != nil && !h.is("jwt") {
		return nil, fail("typ", "want JWT, or none")
	}
	c, payload, err := v.signed(ctx, raw)
	if err != nil {
		return nil, err
	}
	// What is null is there, to what must not be there.
	if err := restoreNulls(c, payload); err != nil {
		return nil, err
	}
	for _, check := range []func(claims.Claims) error{v.issuer, onlyFor(audiences), v.times, noSignIn, noLogout} {
		if err := check(c); err != nil {
			return nil, err
		}
	}
	for name, value := range c {
		if value == nil {
			delete(c, name)
		}
	}
	return c, nil
}

// about names what the token of an error was to be.
func about(token string, err error) error {
	var failed *Error
	if errors.As(err, &failed) {
		failed.token = token
	}
	return err
}

// onlyFor checks aud: whoever signs a statement for somebody else has not signed
// it for us.
func onlyFor(audiences []string) func(claims.Claims) error {
	return func(c claims.Claims) error {
		aud, present := c["aud"]
		if !present {
			return nil
		}
		members, list := aud.([]any)
		if !list {
			members = []any{aud}
		}
		if !slices.ContainsFunc(members, func(member any) bool {
			s, ok := member.(string)
			return ok && slices.Contains(audiences, s)
		}) {
			return fail("aud", "is there, and names neither this client nor its provider")
		}
		return nil
	}
}

// times is notOver for what has to say at least when it was made. Without exp it
// holds for as long as the signer publishes the key.
func (v *Verifier) times(c claims.Claims) error {
	_, ends := c["exp"]
	_, dated := c["iat"]
	if !ends && !dated {
		return fail("exp", "is missing, and so is iat")
	}
	return v.notOver(c)
}

// noSignIn keeps ID tokens out: what a signer that is a provider too says at a
// sign-in somewhere else was said to somebody else.
func noSignIn(c claims.Claims) error {
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash"} {
		if _, present := c[name]; present {
			return fail("nonce", "it has %s, which makes it an ID token", name)
		}
	}
	return nil
}
