// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is the revocation endpoint, by RFC 7009: a client that needs a token no longer says so.

package authentiqtest

import (
	"net/http"
	"slices"
)

// revoke answers at Revocation. A token that it doesn't know is as good as revoked (section 2.2), and what the client
// says that it is, is no more than a hint where to look first (section 2.1).
func (s *Server) revoke(w http.ResponseWriter, r *http.Request, _ *Hooks) {
	noStore(w)
	if name, ok := repeated(r.PostForm, "token", "token_type_hint", "client_id", "client_secret"); ok {
		(&refusal{"invalid_request", name + " occurs more than once"}).write(w, http.StatusBadRequest)
		return
	}
	if refused := s.authenticate(r); refused != nil {
		refused.writeTo(w)
		return
	}
	if r.PostForm.Get("token") == "" {
		(&refusal{"invalid_request", "token is missing"}).write(w, http.StatusBadRequest)
		return
	}
	s.revokeToken(r.PostForm.Get("token"))
	w.WriteHeader(http.StatusOK)
}

// Revoked returns the tokens that the client has revoked while they were good, oldest first. The last 10,000 are kept.
func (s *Server) Revoked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.revoked)
}

// revokeToken ends a refresh token or an access token.
func (s *Server) revokeToken(token string) {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, refresh := s.refresh.take(token, now)
	_, access := s.access.take(token, now)
	if !refresh && !access {
		return
	}
	if len(s.revoked) >= maxRequests {
		s.revoked = slices.Delete(s.revoked, 0, maxRequests/10)
	}
	s.revoked = append(s.revoked, token)
}
