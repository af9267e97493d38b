// SPDX-License-Identifier: Apache-2.0

package idtoken

// This file decides whether an answer of userinfo that is a JWT may be believed
// (OpenID Connect Core 5.3.2).

import (
	"context"
	"errors"
	"strings"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

// VerifyUserinfo checks a JWT that userinfo has answered, signed, encrypted, or
// both, and returns its claims; whose they are is for the caller to compare. One
// that fails a check gives an *Error, keys that could not be fetched a
// *KeysUnavailableError.
//
// Claims that are encrypted and not signed are taken: our own request brought them,
// and so they are worth as much as those that come in plain JSON.
func (v *Verifier) VerifyUserinfo(ctx context.Context, raw string) (claims.Claims, error) {
	c, err := v.verifyUserinfo(ctx, raw)
	var failed *Error
	if errors.As(err, &failed) {
		failed.token = "the JWT"
	}
	return c, err
}

func (v *Verifier) verifyUserinfo(ctx context.Context, raw string) (claims.Claims, error) {
	if len(raw) > MaxSize {
		return nil, fail("size", "%d bytes, at most %d are read", len(raw), MaxSize)
	}
	if encrypted(raw) {
		if v.Decrypter == nil {
			return nil, fail("decryption", "is encrypted, and there is no encryption_key")
		}
		inside, kind, err := v.Decrypter.open(raw)
		if err != nil {
			return nil, err
		}
		switch {
		case kind == "json", kind == "" && strings.HasPrefix(strings.TrimLeft(inside, " \t\r\n"), "{"):
			c, err := claims.Decode([]byte(inside))
			if err != nil {
				return nil, fail("payload", "%w", err)
			}
			return c, nil
		case kind != "" && kind != "jwt":
			return nil, fail("decryption", "has a %.40q in it (cty), want JWT or JSON", kind)
		}
		raw = inside
	}
	h, err := readHeader(raw, v.Algorithms)
	if err != nil {
		return nil, err
	}
	if !Supported(h.algorithm) {
		return nil, fail("alg", "has to be signed")
	}
	if h.typ != nil && !h.is("jwt") {
		return nil, fail("typ", "want JWT, or none")
	}
	c, _, err := v.signed(ctx, raw)
	if err != nil {
		return nil, err
	}
	// The same keys sign other tokens for this client, and one kind must not pass for
	// another. So iss and aud, which the specification only recommends, have to be
	// there; and what only an ID token or a logout token has must not.
	for _, name := range []string{"nonce", "at_hash", "c_hash", "events"} {
		if _, present := c[name]; present {
			return nil, fail(name, "is there, which makes it another kind of token")
		}
	}
	for _, check := range []func(claims.Claims) error{v.issuer, v.audience, v.notOver} {
		if err := check(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}
