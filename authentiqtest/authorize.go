// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is the authorization endpoint: who signs in, by which way, and what goes back to the client.

package authentiqtest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// authorize answers at Authorize, to clients' requests and to the form of its own page.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, hooks *Hooks) {
	noStore(w)
	if r.Method == http.MethodPost && r.PostForm.Has("action") {
		s.decide(w, r, hooks)
		return
	}

	p := parameters(r)
	redirectURI, problem := s.readClient(p)
	if problem != "" {
		s.errorPage(w, http.StatusBadRequest, problem)
		return
	}
	a, refused := s.readAuthRequest(redirectURI, p)
	if refused != nil {
		s.refuse(w, r, hooks, a, refused)
		return
	}

	current, signedIn := s.session(r)
	signedIn = signedIn && a.accepts(current, s.cfg.Now()) && a.isFor(current.userID)
	granted, consented := current.consents[consentKey(a.ask)]
	auto := s.automaticUser()
	if _, ok := s.user(auto.userID); auto.userID != "" && !ok {
		writeFailure(w, fmt.Errorf("SignInAs(%q): the server has no such user", auto.userID))
		return
	}

	switch {
	case a.wants("none") && !signedIn:
		s.refuse(w, r, hooks, a, &refusal{"login_required", "nobody is signed in at the provider, or somebody else than was asked for"})
	case auto.userID != "" && !a.isFor(auto.userID):
		s.refuse(w, r, hooks, a, errOtherUser)
	case auto.userID != "" && (auto.userID == current.userID || !a.wants("none")):
		granted := grantAll(a.ask, auto.leaveOut)
		shown := !signedIn || a.wants("login", "select_account")
		s.grant(w, r, hooks, a, s.signIn(w, r, auto.userID, a, granted, shown), granted)
	case a.wants("none") && !consented:
		s.refuse(w, r, hooks, a, &refusal{"consent_required", "the user has not been asked for this yet"})
	case signedIn && consented && !a.wants("login", "consent", "select_account"):
		s.grant(w, r, hooks, a, current, granted)
	case s.push(w, a):
	default:
		s.signInPage(w, http.StatusOK, a, current.userID, "")
	}
}

// decide takes what the user pressed on the sign-in page.
func (s *Server) decide(w http.ResponseWriter, r *http.Request, hooks *Hooks) {
	a, ok := s.closePage(r.PostForm.Get("request"))
	if !ok {
		s.errorPage(w, http.StatusBadRequest, "This sign-in page was already used, or is too old. Go back to the app and start again.")
		return
	}
	switch r.PostForm.Get("action") {
	case "allow":
		userID := r.PostForm.Get("user")
		if _, ok := s.user(userID); !ok {
			s.signInPage(w, http.StatusBadRequest, a, "", "Choose who signs in.")
			return
		}
		if !a.isFor(userID) {
			s.refuse(w, r, hooks, a, errOtherUser)
			return
		}
		granted := grantOnly(a.ask, r.PostForm["scope"])
		s.grant(w, r, hooks, a, s.signIn(w, r, userID, a, granted, true), granted)
	case "deny":
		s.refuse(w, r, hooks, a, &refusal{"access_denied", "the user said no"})
	case "other":
		s.signInPage(w, http.StatusOK, a, "", "")
	default:
		s.signInPage(w, http.StatusBadRequest, a, "", "Press one of the two buttons.")
	}
}

// grant sends a code to the client, and an ID token that vouches for it where one was asked for.
func (s *Server) grant(w http.ResponseWriter, r *http.Request, hooks *Hooks, a *authRequest, current session, granted []string) {
	code, g := s.newCode(a, current, granted)
	q := url.Values{"code": {code}}
	if a.idToken {
		user, _ := s.user(g.userID)
		token, err := s.idToken(hooks, g, user, hashed{"c_hash", code})
		if err != nil {
			writeFailure(w, err)
			return
		}
		q.Set("id_token", token)
	}
	s.answer(w, r, hooks, a, q)
}

// refuse sends an error to the client.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, hooks *Hooks, a *authRequest, why *refusal) {
	s.answer(w, r, hooks, a, url.Values{"error": {why.code}, "error_description": {why.description}})
}

// answer sends the browser back to the client with the parameters, in the response mode that was asked for.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, hooks *Hooks, a *authRequest, q url.Values) {
	q.Set("iss", s.Issuer)
	if a.hasState {
		q.Set("state", a.state)
	}
	if hooks.AuthorizationResponse != nil {
		hooks.AuthorizationResponse(q)
	}
	switch a.responseMode {
	case "form_post":
		s.formPostPage(w, a.redirectURI, q)
	case "fragment":
		redirect(w, a.redirectURI+"#"+q.Encode())
	default:
		redirect(w, withQuery(a.redirectURI, q))
	}
}

// withQuery adds parameters to a URI and keeps those it has, character by character.
func withQuery(uri string, q url.Values) string {
	if len(q) == 0 {
		return uri
	}
	separator := "?"
	if strings.Contains(uri, "?") {
		separator = "&"
	}
	return uri + separator + q.Encode()
}

// redirect always becomes a GET: a form of ours must not be posted on to the client (RFC 9700 section 4.12). It is not
// http.Redirect, which would tidy up the client's URI.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}
