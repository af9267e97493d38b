// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tells clients what the provider can do: its OpenID Connect Discovery document.

package authentiqtest

import (
	"net/http"
	"slices"
)

// discovery answers at Discovery. Lists are []string, so that a hook can append to them.
func (s *Server) discovery(w http.ResponseWriter, _ *http.Request, hooks *Hooks) {
	algs := []string{"RS256", "ES256"}
	clientAuth := []string{"none"}
	if !s.cfg.PublicClient {
		algs = slices.Insert(algs, 0, "HS256")
		clientAuth = []string{"client_secret_basic", "client_secret_post"}
	}
	if alg := s.signingAlg(); !slices.Contains(algs, alg) {
		algs = append(algs, alg)
	}
	if s.cfg.ClientAuth != "" {
		clientAuth = []string{s.cfg.ClientAuth}
	}
	grants := []string{"authorization_code"}
	if s.cfg.RefreshTokens {
		grants = append(grants, "refresh_token")
	}
	scopes := []string{openID}
	claims := []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "sid", "at_hash", "c_hash", "jti", "scope"}
	for _, sc := range s.scopes {
		scopes = append(scopes, sc.name)
		for _, claim := range sc.claims {
			if !slices.Contains(claims, claim) {
				claims = append(claims, claim)
			}
		}
	}

	encryptionAlgs := []string{"RSA-OAEP", "RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"}
	encryptionEncs := []string{"A128CBC-HS256", "A256CBC-HS512", "A128GCM", "A256GCM"}

	doc := map[string]any{
		"issuer":                 s.Issuer,
		"authorization_endpoint": s.EndpointURL(Authorize),
		"token_endpoint":         s.EndpointURL(Token),
		"userinfo_endpoint":      s.EndpointURL(Userinfo),
		"jwks_uri":               s.EndpointURL(Keys),
		"end_session_endpoint":   s.EndpointURL(EndSession),
		"revocation_endpoint":    s.EndpointURL(Revocation),

		"scopes_supported":                      scopes,
		"claims_supported":                      claims,
		"response_types_supported":              []string{"code", "code id_token"},
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"grant_types_supported":                 grants,
		"subject_types_supported":               []string{"public"},
		"claim_types_supported":                 []string{"normal", "aggregated", "distributed"},
		"prompt_values_supported":               []string{"none", "login", "consent", "select_account"},
		"id_token_signing_alg_values_supported": algs,
		"token_endpoint_auth_methods_supported": clientAuth,
		"userinfo_signing_alg_values_supported": algs,

		"id_token_encryption_alg_values_supported": encryptionAlgs,
		"id_token_encryption_enc_values_supported": encryptionEncs,
		"userinfo_encryption_alg_values_supported": encryptionAlgs,
		"userinfo_encryption_enc_values_supported": encryptionEncs,

		"revocation_endpoint_auth_methods_supported": clientAuth,

		"code_challenge_methods_supported": []string{"S256"},

		"authorization_response_iss_parameter_supported": true,
		"request_parameter_supported":                    false,
		"request_uri_parameter_supported":                false,
		"claims_parameter_supported":                     false,
		"backchannel_logout_supported":                   true,
		"backchannel_logout_session_supported":           true,
	}
	if algs := s.cfg.clientAuthAlgs(); algs != nil {
		doc["token_endpoint_auth_signing_alg_values_supported"] = slices.Clone(algs)
		doc["revocation_endpoint_auth_signing_alg_values_supported"] = slices.Clone(algs)
	}
	if s.cfg.ClientAuth == tlsClientAuth {
		doc["tls_client_certificate_bound_access_tokens"] = true
	}
	if hooks.Discovery != nil {
		hooks.Discovery(doc)
	}
	writeJSON(w, http.StatusOK, doc)
}
