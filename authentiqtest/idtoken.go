// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file makes ID tokens, and lets every hook have its turn at them.

package authentiqtest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// hashed is what an ID token vouches for, and the claim that it does so by: at_hash for the access token that comes with
// it, c_hash for the code.
type hashed struct{ claim, text string }

// idToken makes the ID token of a grant, as it is sent.
func (s *Server) idToken(hooks *Hooks, g grant, user User, beside hashed) (string, error) {
	alg, err := parseAlg(s.signingAlg())
	if err != nil {
		return "", err
	}
	now := s.cfg.Now()
	claims := user.share(s.scopes, g.scopes)
	claims["iss"] = s.Issuer
	claims["sub"] = user.ID
	claims["aud"] = s.cfg.ClientID
	claims["iat"] = now.Unix()
	claims["exp"] = now.Add(idTokenLifetime).Unix()
	claims["auth_time"] = g.authTime.Unix()
	claims["jti"] = rand.Text()
	claims["sid"] = g.sid
	claims["scope"] = strings.Join(g.scopes, " ")
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	if g.acr != "" {
		claims["acr"] = g.acr
	}
	if alg.family != familyNone { // without an algorithm there is no hash to take
		claims[beside.claim] = alg.halfHash(beside.text)
	}
	if hooks.IDTokenClaims != nil {
		hooks.IDTokenClaims(claims)
	}

	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("writing the ID token's claims: %w", err)
	}
	if hooks.IDTokenPayload != nil {
		payload = hooks.IDTokenPayload(payload)
	}

	keys := s.keys.Load() // one generation for key ID and signature, whatever RotateKeys does meanwhile
	header := keys.header(alg)
	if hooks.IDTokenHeader != nil {
		hooks.IDTokenHeader(header)
	}
	compact, err := s.sign(keys, alg.name, header, payload)
	if err != nil {
		return "", err
	}
	compact, hint, err := s.seal(hooks, compact)
	if err != nil {
		return "", err
	}
	encrypted := compact != hint
	if hooks.IDToken != nil {
		compact = hooks.IDToken(compact)
	}
	if !encrypted { // else the hint is what was inside (OpenID Connect Core section 3.1.2.1)
		hint = compact
	}
	s.rememberIDToken(hint, g)
	return compact, nil
}

// halfHash is at_hash and c_hash, of OpenID Connect Core sections 3.1.3.6 and 3.3.2.11.
func (a algorithm) halfHash(text string) string {
	h := a.hash.New()
	h.Write([]byte(text))
	sum := h.Sum(nil)
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}
