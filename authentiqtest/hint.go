// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is what a request says of who is about to sign in, and what that spares them.

package authentiqtest

import "net/http"

// readIDTokenHint reads id_token_hint, an ID token of ours that may be over. It is more than a hint: nobody but its user
// gets a code (OpenID Connect Core section 3.1.2.1).
func (s *Server) readIDTokenHint(a *authRequest, token string) *refusal {
	if token == "" {
		return nil
	}
	issued, ok := s.issuedIDToken(token)
	if !ok {
		return &refusal{"invalid_request", "id_token_hint is not an ID token of this provider's"}
	}
	a.onlyUser = issued.userID
	return nil
}

// isFor reports whether a user may sign in by this request.
func (a *authRequest) isFor(userID string) bool { return a.onlyUser == "" || a.onlyUser == userID }

var errOtherUser = &refusal{"login_required", "who signs in is not the user of id_token_hint"}

// likely is the user whom the request's hints mean, or nobody.
func (s *Server) likely(a *authRequest) (User, bool) {
	for _, u := range s.userList() {
		if a.onlyUser == u.ID || a.onlyUser == "" && a.loginHint != "" && u.matches(a.loginHint) {
			return u, true
		}
	}
	return User{}, false
}

// pushKey is what a user has let the client ask for by notification, as this request does.
func pushKey(userID string, a *authRequest) string { return userID + " " + consentKey(a.ask) }

// push shows the page of a sign-in whose user is known, and has let the client ask by notification: one click is left. It
// reports whether it did.
func (s *Server) push(w http.ResponseWriter, a *authRequest) bool {
	user, ok := s.likely(a)
	if !ok || a.wants("login", "consent", "select_account") {
		return false
	}
	s.mu.Lock()
	granted, ok := s.pushes.get(pushKey(user.ID, a), s.cfg.Now())
	s.mu.Unlock()
	if !ok {
		return false
	}
	s.showPage(w, http.StatusOK, "push", page{Title: "Look at your phone", View: pushView{
		Client: s.cfg.ClientID, Action: string(Authorize), Request: s.openPage(a), User: user, Scopes: granted,
	}}, "")
	return true
}
