// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is the end-session endpoint, by OpenID Connect RP-Initiated Logout 1.0.

package authentiqtest

import (
	"net/http"
	"net/url"
)

// endSession answers at EndSession. A request that is wrong in any part ends nothing and leads nowhere.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request, _ *Hooks) {
	noStore(w)
	p := parameters(r)
	refuse := func(problem string) { s.errorPage(w, http.StatusBadRequest, problem) }

	if name, ok := repeated(p, "id_token_hint", "client_id", "post_logout_redirect_uri", "state"); ok {
		refuse("The sign-out request has more than one " + name + ".")
		return
	}
	if p.Has("client_id") && p.Get("client_id") != s.cfg.ClientID {
		refuse("This provider doesn't know the app's client_id.")
		return
	}
	var sid string
	if p.Has("id_token_hint") {
		issued, ok := s.issuedIDToken(p.Get("id_token_hint"))
		if !ok {
			refuse("The id_token_hint isn't a token of this provider.")
			return
		}
		sid = issued.sid
	}
	uri := p.Get("post_logout_redirect_uri")
	if uri != "" {
		if !p.Has("id_token_hint") && !p.Has("client_id") {
			refuse("The sign-out request doesn't say which app it is from.")
			return
		}
		if !allowsURI(s.cfg.PostLogoutRedirectURIs, uri) {
			refuse("The post_logout_redirect_uri isn't one of this app's.")
			return
		}
	}

	s.signOut(w, r, sid)
	if uri == "" {
		s.signedOutPage(w)
		return
	}
	q := url.Values{}
	if p.Has("state") {
		q.Set("state", p.Get("state"))
	}
	redirect(w, withQuery(uri, q))
}
