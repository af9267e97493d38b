// SPDX-License-Identifier: Apache-2.0

package idtoken

// This file decides whether a logout token may be believed (OpenID Connect
// Back-Channel Logout 1.0 sections 2.4 to 2.6). Anybody can post one, so it is
// held to all that an ID token is, and the two never pass for each other.

import (
	"context"
	"encoding/json"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/claims"
)

const (
	// logoutType is the typ of a logout token that names it (section 2.4).
	logoutType = "logout+jwt"

	// logoutEvent is the member of events that makes a logout token one.
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

	// freshLogout is how old a logout token may be that does not say when it ends.
	freshLogout = 5 * time.Minute
)

// LogoutOptions say what a provider is known to leave out.
type LogoutOptions struct {
	MayLackExpiry bool // Authentiq's logout tokens may have no exp; iat then has to be fresh
}

// Logout is what a logout token says: the sessions of SID are over, or, without
// one, all of Subject that began at or before Issued.
type Logout struct {
	Subject, SID string // one of them may be empty
	Issued       time.Time
}

// VerifyLogout checks a logout token. One that fails a check gives an *Error, keys
// that could not be fetched a *KeysUnavailableError.
//
// It does not remember jti: a token that comes again says of the same sessions
// that they are over.
func (v *Verifier) VerifyLogout(ctx context.Context, raw string, o LogoutOptions) (*Logout, error) {
	out, err := v.verifyLogout(ctx, raw, o)
	return out, about("logout token", err)
}

func (v *Verifier) verifyLogout(ctx context.Context, raw string, o LogoutOptions) (*Logout, error) {
	// Encrypted where ID tokens are (section 2.6, item 1).
	raw, err := v.unwrap(raw)
	if err != nil {
		return nil, err
	}
	// Signed whatever is configured for ID tokens, which come over a connection of
	// ours (section 2.6, item 3; OpenID Connect Core 3.1.3.7, item 6).
	if unsignedOnly(v.Algorithms) {
		return nil, fail("alg", "a logout token has to be signed, and signing_alg none names nothing that it could be signed with")
	}
	h, err := readHeader(raw, v.Algorithms)
	if err != nil {
		return nil, err
	}
	if !Supported(h.algorithm) {
		return nil, fail("alg", "a logout token has to be signed")
	}
	if h.typ != nil && !h.is(logoutType) && !h.is("jwt") {
		return nil, fail("typ", "want %s or JWT, or none", logoutType)
	}
	c, payload, err := v.signed(ctx, raw)
	if err != nil {
		return nil, err
	}
	if err := restoreNulls(c, payload); err != nil {
		return nil, err
	}
	expiry := v.expiry
	if _, present := c["exp"]; !present && o.MayLackExpiry {
		expiry = v.fresh
	}
	for _, check := range []func(claims.Claims) error{v.issuer, v.audience, v.issuance, expiry, logout, jti, whose} {
		if err := check(c); err != nil {
			return nil, err
		}
	}
	issued, err := Instant(c, "iat")
	if err != nil {
		return nil, err
	}
	return &Logout{Subject: c.String("sub"), SID: c.String("sid"), Issued: issued}, nil
}

// restoreNulls gives c the members that are null in the payload: to an ID token
// they are absent, but a logout token with "nonce":null has a nonce.
func restoreNulls(c claims.Claims, payload []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(payload, &members); err != nil {
		return fail("payload", "%w", err)
	}
	for name := range members {
		if _, there := c[name]; !there {
			c[name] = nil
		}
	}
	return nil
}

// fresh takes the place of expiry in a token that does not say when it ends.
func (v *Verifier) fresh(c claims.Claims) error {
	issued, err := Instant(c, "iat")
	if err != nil {
		return err
	}
	if age := v.Now().Sub(issued); age > freshLogout+v.Skew {
		return fail("exp", "is missing, and the token is %s old", age.Round(time.Second))
	}
	return nil
}

// logout checks that the token says that somebody was signed out, and that it
// can't be an ID token: that is what nonce must not be there for, null or not
// (section 2.6, items 5 and 6).
func logout(c claims.Claims) error {
	events, ok := c["events"].(map[string]any)
	if !ok {
		return fail("events", "is missing or no object")
	}
	if _, ok := events[logoutEvent].(map[string]any); !ok {
		return fail("events", "does not have %s as an object", logoutEvent)
	}
	if _, present := c["nonce"]; present {
		return fail("nonce", "is there, which makes it an ID token")
	}
	return nil
}

// noLogout keeps a logout token from being an ID token, also where that may lack a
// nonce.
func noLogout(c claims.Claims) error {
	events, _ := c["events"].(map[string]any)
	if _, present := events[logoutEvent]; present {
		return fail("events", "is that of a logout token")
	}
	return nil
}

// jti is required (section 2.4), and more than is remembered of it.
func jti(c claims.Claims) error {
	id, ok := c["jti"].(string)
	if !ok || id == "" || len(id) > 255 {
		return fail("jti", "is missing, empty, longer than 255 characters or no string")
	}
	return nil
}

// whose checks whom the token is about: a session, a user, or both. Empty is not
// absent: it would match whoever has none.
func whose(c claims.Claims) error {
	_, sub := c["sub"]
	_, sid := c["sid"]
	if !sub && !sid {
		return fail("sid", "is missing, and so is sub")
	}
	if sub {
		if err := subject(c); err != nil {
			return err
		}
	}
	if sid {
		return identifier(c, "sid")
	}
	return nil
}
