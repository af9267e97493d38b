// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file makes the tokens of remote sign-out, by OpenID Connect Back-Channel Logout 1.0.

package authentiqtest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"
)

// logoutTokenLifetime is the two minutes that the specification recommends as the most.
const logoutTokenLifetime = 2 * time.Minute

// LogoutToken makes a logout token for a user, a session, or both; an empty sub or sid is left out. It is signed and
// encrypted as ID tokens are. Each change may alter the claims before that. Posting it to the client is the caller's part, and the
// session at the provider stays as it is.
func (s *Server) LogoutToken(sub, sid string, change ...func(claims map[string]any)) (string, error) {
	alg, err := parseAlg(s.signingAlg())
	if err != nil {
		return "", fmt.Errorf("authentiqtest: %w", err)
	}
	now := s.cfg.Now()
	claims := map[string]any{
		"iss":    s.Issuer,
		"aud":    s.cfg.ClientID,
		"iat":    now.Unix(),
		"exp":    now.Add(logoutTokenLifetime).Unix(),
		"jti":    rand.Text(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	if sub != "" {
		claims["sub"] = sub
	}
	if sid != "" {
		claims["sid"] = sid
	}
	for _, edit := range change {
		edit(claims)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("authentiqtest: writing the logout token's claims: %w", err)
	}
	keys := s.keys.Load()
	header := keys.header(alg)
	header["typ"] = "logout+jwt"
	token, err := s.sign(keys, alg.name, header, payload)
	if err != nil {
		return "", fmt.Errorf("authentiqtest: %w", err)
	}
	if token, _, err = s.seal(s.hooks.Load(), token); err != nil {
		return "", fmt.Errorf("authentiqtest: %w", err)
	}
	return token, nil
}
