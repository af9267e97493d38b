// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file shows the pages that a person sees.

package authentiqtest

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the two files below
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
)

// pageTemplate is read only. Its text is part of the program, so that parsing it can only fail for everyone, and at once.
var pageTemplate = template.Must(template.New("").Parse(pageHTML))

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageStyle string

// postScript sends a form_post answer on by itself; where scripts are off there is the button.
const postScript = "document.forms[0].submit()"

// page is what one page shows.
type page struct {
	Title string
	Style template.CSS
	View  any
}

// signInView is the sign-in and consent page.
type signInView struct {
	Problem string
	Client  string
	Back    string // where the answer will go, as the user would recognise it
	Action  string
	Request string
	Users   []userChoice
	Scopes  []scopeChoice
}

type userChoice struct {
	ID, Label string
	Chosen    bool
}

type scopeChoice struct {
	Name, Words        string
	Required, Verified bool
}

// pushView is the page of a sign-in by notification.
type pushView struct {
	Client  string
	Action  string
	Request string
	User    User
	Scopes  []string
}

// formPostView is the page of response_mode=form_post.
type formPostView struct {
	Action string
	Values url.Values
	Script template.JS
}

// messageView is a page that only says something.
type messageView struct {
	Message string
}

// signInPage asks who signs in and what they share. A user is chosen beforehand: the one that a hint means, else the
// one who is signed in, else the first.
func (s *Server) signInPage(w http.ResponseWriter, status int, a *authRequest, signedIn, problem string) {
	view := signInView{
		Problem: problem,
		Client:  s.cfg.ClientID,
		Back:    hostOf(a.redirectURI),
		Action:  string(Authorize),
		Request: s.openPage(a),
	}
	if user, ok := s.likely(a); ok {
		signedIn = user.ID
	}
	chosen := 0
	for i, u := range s.userList() {
		view.Users = append(view.Users, userChoice{ID: u.ID, Label: u.Label})
		if u.ID == signedIn {
			chosen = i
		}
	}
	if len(view.Users) > 0 {
		view.Users[chosen].Chosen = true
	}
	for _, ask := range a.ask {
		if sc, ok := scopeByName(s.scopes, ask.name); ok {
			view.Scopes = append(view.Scopes, scopeChoice{ask.name, sc.words, ask.required, ask.verified})
		}
	}
	s.showPage(w, status, "signin", page{Title: "Sign in", View: view}, "")
}

// errorPage says why there is no way on. It is for what must not be sent to a redirect URI.
func (s *Server) errorPage(w http.ResponseWriter, status int, message string) {
	s.showPage(w, status, "message", page{Title: "This doesn’t work", View: messageView{message}}, "")
}

func (s *Server) signedOutPage(w http.ResponseWriter) {
	s.showPage(w, http.StatusOK, "message", page{Title: "Signed out", View: messageView{"You are signed out of the test provider."}}, "")
}

// formPostPage sends the answer to the client as a form.
func (s *Server) formPostPage(w http.ResponseWriter, redirectURI string, q url.Values) {
	view := formPostView{redirectURI, q, postScript}
	s.showPage(w, http.StatusOK, "formpost", page{Title: "Back to the app", View: view}, postScript)
}

// showPage writes one page. Its policy allows the one style, the one script if there is one, and nothing else. It says
// nothing of form-action: browsers apply that to redirects after a form too, and would not go back to the client.
func (s *Server) showPage(w http.ResponseWriter, status int, name string, p page, script string) {
	p.Style = template.CSS(pageStyle) // our own file, not input
	var body bytes.Buffer
	if err := pageTemplate.ExecuteTemplate(&body, name, p); err != nil {
		writeFailure(w, fmt.Errorf("writing the page: %w", err))
		return
	}
	policy := "default-src 'none'; style-src " + cspHash(pageStyle) + "; base-uri 'none'; frame-ancestors 'none'"
	if script != "" {
		policy += "; script-src " + cspHash(script)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the browser may have gone
}

func cspHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// userList is the users of this moment.
func (s *Server) userList() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users)
}

// matches reports whether a login_hint means this user.
func (u User) matches(hint string) bool {
	return slices.Contains([]any{u.ID, u.Claims["email"], u.Claims["phone_number"], u.Claims["preferred_username"]}, any(hint))
}

func hostOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return uri
	}
	return u.Host
}
