// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file authenticates clients that don't show a secret: by an assertion (RFC 7523) or a certificate (RFC 8705).

package authentiqtest

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The values of Config.ClientAuth.
const (
	clientSecretJWT = "client_secret_jwt"
	privateKeyJWT   = "private_key_jwt"
	tlsClientAuth   = "tls_client_auth"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// maxAssertionLife is how long an assertion may be good: one that lasts is as good as a secret.
const maxAssertionLife = 5 * time.Minute

// clientAuthAlgs are what assertions may be signed with; none where there are no assertions.
func (c Config) clientAuthAlgs() []string {
	switch c.ClientAuth {
	case clientSecretJWT:
		return []string{"HS256", "HS384", "HS512"}
	case privateKeyJWT:
		return asymmetricAlgs
	}
	return nil
}

// settleClientAuth refuses a way that lacks what it needs.
func (c Config) settleClientAuth() error {
	switch {
	case c.ClientAuth == "":
		return nil
	case c.PublicClient:
		return errors.New("a public client has no ClientAuth")
	case c.ClientAuth == privateKeyJWT && c.ClientKeys == nil:
		return fmt.Errorf("ClientAuth %s needs ClientKeys", privateKeyJWT)
	case c.ClientAuth == tlsClientAuth && (c.TLS == nil || c.ClientCertificate == nil):
		return fmt.Errorf("ClientAuth %s needs TLS and ClientCertificate", tlsClientAuth)
	case !slices.Contains([]string{clientSecretJWT, privateKeyJWT, tlsClientAuth}, c.ClientAuth):
		return fmt.Errorf("unknown ClientAuth %q", c.ClientAuth)
	}
	return nil
}

// authenticateBy checks that the request is the client's, by Config.ClientAuth and nothing else.
func (s *Server) authenticateBy(r *http.Request) *refusal {
	if name, ok := repeated(r.PostForm, "client_assertion", "client_assertion_type"); ok {
		return &refusal{"invalid_request", name + " occurs more than once"}
	}
	if r.Header.Get("Authorization") != "" || r.PostForm.Has("client_secret") {
		return &refusal{"invalid_client", "the client is registered with " + s.cfg.ClientAuth}
	}
	id := r.PostForm.Get("client_id")
	if s.cfg.ClientAuth == tlsClientAuth {
		if id != s.cfg.ClientID || !presents(r, s.cfg.ClientCertificate) {
			return &refusal{"invalid_client", "the client is unknown, or its certificate is not the one that is registered"}
		}
		return nil
	}
	if id != "" && id != s.cfg.ClientID {
		return &refusal{"invalid_client", "the client is unknown"}
	}
	if r.PostForm.Get("client_assertion_type") != assertionType {
		return &refusal{"invalid_client", "client_assertion_type is missing or unknown"}
	}
	if err := s.checkAssertion(r.PostForm.Get("client_assertion")); err != nil {
		return &refusal{"invalid_client", "client_assertion: " + err.Error()}
	}
	return nil
}

// presents reports whether the request came over a connection with this certificate. The handshake has shown that its
// key is there.
func presents(r *http.Request, certificate *x509.Certificate) bool {
	return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && r.TLS.PeerCertificates[0].Equal(certificate)
}

func (s *Server) checkAssertion(compact string) error {
	var algs []jose.SignatureAlgorithm
	for _, name := range s.cfg.clientAuthAlgs() {
		algs = append(algs, jose.SignatureAlgorithm(name))
	}
	signed, err := jose.ParseSignedCompact(compact, algs)
	if err != nil {
		return errors.New("it is no token, or signed with an algorithm that is not taken")
	}
	key, err := s.assertionKey(signed.Signatures[0].Header)
	if err != nil {
		return err
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return errors.New("the signature is wrong")
	}
	var claims struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience string `json:"aud"` // one text: a list could have somebody else in it
		ID       string `json:"jti"`
		IssuedAt *int64 `json:"iat"`
		Expires  *int64 `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return errors.New("the claims are malformed")
	}
	now := s.cfg.Now()
	switch {
	case claims.Issuer != s.cfg.ClientID || claims.Subject != s.cfg.ClientID:
		return errors.New("iss and sub have to be the client's ID")
	case claims.Audience != s.Issuer:
		return errors.New("aud has to be the issuer, and nothing else")
	case claims.Expires == nil || !now.Before(time.Unix(*claims.Expires, 0)):
		return errors.New("exp is missing or past")
	case time.Unix(*claims.Expires, 0).After(now.Add(maxAssertionLife)):
		return errors.New("exp is too far away")
	case claims.IssuedAt == nil || time.Unix(*claims.IssuedAt, 0).After(now.Add(time.Minute)):
		return errors.New("iat is missing or of the future")
	case claims.ID == "":
		return errors.New("jti is missing")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.assertions.get(claims.ID, now); used {
		return errors.New("jti was used before")
	}
	s.assertions.put(claims.ID, struct{}{}, now, time.Unix(*claims.Expires, 0))
	return nil
}

// assertionKey finds what an assertion is verified with.
func (s *Server) assertionKey(header jose.Header) (any, error) {
	if s.cfg.ClientAuth == clientSecretJWT {
		return []byte(s.cfg.ClientSecret), nil
	}
	text, err := s.cfg.ClientKeys()
	if err != nil {
		return nil, errors.New("the client's keys can't be read")
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("the client's keys are malformed")
	}
	for _, key := range set.Key(header.KeyID) {
		fits := (key.Use == "" || key.Use == "sig") && (key.Algorithm == "" || key.Algorithm == header.Algorithm)
		if header.KeyID != "" && fits && key.IsPublic() {
			return key.Key, nil
		}
	}
	return nil, errors.New("no key of the client's has this kid and is for signing so")
}
