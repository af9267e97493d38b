// SPDX-License-Identifier: Apache-2.0

package authentiq

// jwks.go is our own keys: their public halves, for the provider to read.

import (
	"net/http"

	"github.com/go-jose/go-jose/v4"
)

// publish adds the public halves of our private keys to what jwks.json answers.
// use is `enc` for what opens tokens, `sig` for what signs assertions.
func (g *Gate) publish(use string, keys ...jose.JSONWebKey) {
	for _, key := range keys {
		public := key.Public()
		public.Use = use
		g.published.Keys = append(g.published.Keys, public)
	}
}

// serveKeys answers with our public keys, a JWK Set (RFC 7517 section 5); its
// address is what a provider is told as this client's jwks_uri. Without keys of
// ours it is an empty one.
func (g *Gate) serveKeys(w http.ResponseWriter, r *http.Request, _ *visit) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return methodNotAllowed(w, "GET, HEAD")
	}
	if g.published.Keys == nil {
		return writeJSON(w, r, http.StatusOK, "application/jwk-set+json", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}})
	}
	return writeJSON(w, r, http.StatusOK, "application/jwk-set+json", g.published)
}
