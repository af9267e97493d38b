// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is the userinfo endpoint.

package authentiqtest

import (
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
	if !ok {
		unauthorized(`Bearer error="invalid_token"`)
		return
	}
	user, ok := s.user(g.userID)
	if !ok {
		unauthorized(`Bearer error="invalid_token"`)
		return
	}
	doc := user.share(g.scopes)
	doc["sub"] = user.ID
	if hooks.Userinfo != nil {
		hooks.Userinfo(doc)
	}
	writeJSON(w, http.StatusOK, doc)
}
