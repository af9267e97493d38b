// SPDX-License-Identifier: Apache-2.0

package authentiq

// jwks.go is our own keys: their public halves, for the provider to read.

import (
	"crypto"
	"fmt"
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

// hasKeys reports whether the options give jwks.json something to answer.
func (o *Options) hasKeys() bool {
	return len(o.EncryptionKey) > 0 || o.ClientAuth != nil && o.ClientAuth.Method == "private_key_jwt"
}

// reserve refuses a key that has another use already, at whichever gate: what one of
// them makes could be passed off as the other's.
func (a *App) reserve(use string, keys ...jose.JSONWebKey) error {
	for _, key := range keys {
		sum, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			return fmt.Errorf("the key %.64q: %w", key.KeyID, err)
		}
		if other := a.uses[string(sum)]; other != "" && other != use {
			return fmt.Errorf("client_auth and encryption_key have one key (kid %.64q): make one for each", key.KeyID)
		}
		a.uses[string(sum)] = use
	}
	return nil
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
