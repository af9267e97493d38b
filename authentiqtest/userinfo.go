// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is the userinfo endpoint.

package authentiqtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// userinfo answers at Userinfo. The access token comes in the Authorization header or in a posted form (RFC 6750
// sections 2.1 and 2.2), never in the URL, where logs would keep it.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request, hooks *Hooks) {
	noStore(w)
	unauthorized := func(challenge string) {
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
	}

	header := r.Header.Get("Authorization")
	token := r.PostForm.Get("access_token")
	switch {
	case header != "" && r.PostForm.Has("access_token"):
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_request"`)
		w.WriteHeader(http.StatusBadRequest)
		return
	case header != "":
		scheme, value, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			unauthorized("Bearer")
			return
		}
		token = value
	case token == "":
		unauthorized("Bearer")
		return
	}

	g, ok := s.accessGrant(token)
	if bound := s.cfg.ClientAuth == tlsClientAuth; !ok || bound && !presents(r, s.cfg.ClientCertificate) {
		unauthorized(`Bearer error="invalid_token"`)
		return
	}
	user, ok := s.user(g.userID)
	if !ok {
		unauthorized(`Bearer error="invalid_token"`)
		return
	}
	doc := user.share(s.scopes, g.scopes)
	doc["sub"] = user.ID
	alg, encrypted := s.userinfoForm()
	if alg != "" { // OpenID Connect Core section 5.3.2
		doc["iss"], doc["aud"] = s.Issuer, s.cfg.ClientID
	}
	if hooks.Userinfo != nil {
		hooks.Userinfo(doc)
	}
	if alg == "" && !encrypted {
		writeJSON(w, http.StatusOK, doc)
		return
	}
	payload, err := json.Marshal(doc)
	if err != nil {
		writeFailure(w, fmt.Errorf("writing userinfo: %w", err))
		return
	}
	jwt, err := s.userinfoJWT(hooks, alg, encrypted, payload)
	if err != nil {
		writeFailure(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/jwt")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, jwt) // the client may have gone, and there is nobody else to tell
}
