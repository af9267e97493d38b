// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file writes compact JWS tokens, well-formed or not. It builds them by hand, because a library that signs
// refuses just those tokens that a test of a verifier needs.

package authentiqtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// Sign makes a compact token over any payload with the server's own key for alg: the client secret for HS*, the current
// key pair for the others, no signature for "none". The header is sent as it is given, even where it contradicts
// alg; nil stands for the one that the server itself would send.
func (s *Server) Sign(alg string, header map[string]any, payload []byte) (string, error) {
	token, err := s.sign(s.keys.Load(), alg, header, payload)
	if err != nil {
		return "", fmt.Errorf("authentiqtest: %w", err)
	}
	return token, nil
}

// SignWith is [Server.Sign] with a key from elsewhere: a []byte or string for HS*, else an *rsa.PrivateKey, an
// *ecdsa.PrivateKey on any curve, or an ed25519.PrivateKey. A nil header stands for alg and typ without a key ID.
func (s *Server) SignWith(key any, alg string, header map[string]any, payload []byte) (string, error) {
	token, err := signWith(key, alg, header, payload)
	if err != nil {
		return "", fmt.Errorf("authentiqtest: %w", err)
	}
	return token, nil
}

func (s *Server) sign(keys *keyring, alg string, header map[string]any, payload []byte) (string, error) {
	parsed, err := parseAlg(alg)
	if err != nil {
		return "", err
	}
	if header == nil {
		header = keys.header(parsed)
	}
	switch parsed.family {
	case familyNone:
		return signWith(nil, alg, header, payload)
	case familyHMAC:
		if err := s.cfg.allowAlg(alg); err != nil {
			return "", err
		}
		return signWith(s.cfg.ClientSecret, alg, header, payload)
	}
	private, err := keys.private(parsed)
	if err != nil {
		return "", err
	}
	return signWith(private, alg, header, payload)
}

func signWith(key any, alg string, header map[string]any, payload []byte) (string, error) {
	parsed, err := parseAlg(alg)
	if err != nil {
		return "", err
	}
	if header == nil {
		header = map[string]any{"alg": alg, "typ": "JWT"}
	}
	head, err := json.Marshal(header)
	if err != nil {
		return "", fmt.Errorf("writing the token's header: %w", err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	input := b64(head) + "." + b64(payload)
	sig, err := parsed.sign(key, input)
	if err != nil {
		return "", err
	}
	return input + "." + b64(sig), nil
}

// header is that of a well-behaved token. Only a key pair has a key ID: naming the secret would help nobody.
func (k *keyring) header(alg algorithm) map[string]any {
	h := map[string]any{"alg": alg.name, "typ": "JWT"}
	if alg.family != familyNone && alg.family != familyHMAC {
		h["kid"] = alg.kid(k.generation)
	}
	return h
}
