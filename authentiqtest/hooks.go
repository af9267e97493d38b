// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is where a test makes the provider misbehave.

package authentiqtest

import (
	"net/http"
	"net/url"
)

// Hooks change what the server is about to send. The zero value changes nothing.
//
// Each is called with the value in its last moment and may change it in place; the value belongs to that one answer, so
// nothing that is done to it outlives it. Hooks run in the goroutine of the request, several at a time if requests
// are, and hold none of the server's locks: a hook may call the server's methods, all but [Server.Close], which would
// wait for the hook.
//
// For an ID token the order is IDTokenClaims, IDTokenPayload, IDTokenHeader, the signature, where it is encrypted
// EncryptedHeader and Encrypted, IDToken, and then TokenResponse with the finished token in it. The ID token of the
// authorization response, which a client asks for by response_type code id_token, has the same turns, and then
// AuthorizationResponse; it is the one with a c_hash.
type Hooks struct {
	// Discovery changes the provider's configuration document.
	Discovery func(doc map[string]any)

	// AuthorizationResponse changes the parameters that go back to the client, of a success (code, state, iss, id_token) and of
	// an error (error, error_description, state, iss).
	AuthorizationResponse func(q url.Values)

	// IDTokenHeader changes the header that is sent: alg, kid, typ, and whatever it adds. The signature is made over the
	// changed header, but still by the algorithm and with the key that the server is set to.
	IDTokenHeader func(h map[string]any)

	// IDTokenClaims changes the claims before they are signed. Times are int64, the user's claims are as given in User.
	IDTokenClaims func(c map[string]any)

	// IDTokenPayload replaces the JSON text that is signed: the place for duplicate members, deep nesting, numbers
	// that no float64 holds, and text that isn't JSON.
	IDTokenPayload func(payload []byte) []byte

	// EncryptedHeader changes the header of an encrypted token: cty is there; alg, enc and kid are not, as the server is
	// set to them. It is for ID tokens, logout tokens and userinfo.
	EncryptedHeader func(h map[string]any)

	// Encrypted replaces what is put inside an encrypted token, of the same three kinds: a token that is not signed,
	// claims as they are, another encrypted token.
	Encrypted func(inside string) string

	// IDToken replaces the compact token as it is sent: a flipped signature, a missing part, a token from elsewhere.
	IDToken func(compact string) string

	// TokenResponse changes the JSON answer of a successful token request. For a failed one there is Handler.
	TokenResponse func(m map[string]any)

	// Userinfo changes the JSON answer of a successful userinfo request, or the claims of its JWT.
	Userinfo func(m map[string]any)

	// UserinfoHeader changes the header of a userinfo answer that is signed, and the signature is made over it.
	UserinfoHeader func(h map[string]any)

	// UserinfoJWT replaces a userinfo answer that is signed or encrypted, as it is sent.
	UserinfoJWT func(compact string) string

	// Keys changes the JSON Web Key Set: "keys" is a []any of map[string]any.
	Keys func(jwks map[string]any)

	// Handler takes over an endpoint: to delay, to answer with another status, a redirect, HTML or a huge body, or to let
	// next answer and look at it. It is asked for a handler on each request. The request's body is whole, and its context
	// ends when the server goes down.
	Handler func(e Endpoint, next http.Handler) http.Handler
}

// SetHooks replaces all hooks at once. Requests that are being served keep the hooks they started with.
func (s *Server) SetHooks(h Hooks) {
	s.hooks.Store(&h)
}
