// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file reads authorization requests and decides which of them are fit to be answered.

package authentiqtest

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// authRequest is an authorization request that was read.
type authRequest struct {
	redirectURI  string
	responseMode string
	idToken      bool // one is asked for beside the code
	state        string
	hasState     bool
	nonce        string
	challenge    string // PKCE S256; "" if none was sent
	ask          []asked
	prompt       []string
	maxAge       *time.Duration
	acr          string
	loginHint    string
	onlyUser     string // of id_token_hint; nobody else may sign in
}

// readClient reads what must be right before anything is sent to the redirect URI: with a wrong one, a redirect would
// hand the answer to whoever wrote the link. The error is a sentence for the page.
func (s *Server) readClient(p url.Values) (redirectURI, problem string) {
	if name, ok := repeated(p, "client_id", "redirect_uri"); ok {
		return "", "The request has more than one " + name + "."
	}
	if p.Get("client_id") != s.cfg.ClientID {
		return "", "This provider doesn't know the app's client_id."
	}
	uri := p.Get("redirect_uri")
	if uri == "" {
		return "", "The request has no redirect_uri."
	}
	if u, err := url.Parse(uri); err != nil || !u.IsAbs() || strings.Contains(uri, "#") || !allowsURI(s.cfg.RedirectURIs, uri) {
		return "", "The redirect_uri isn't one of this app's."
	}
	return uri, ""
}

// readAuthRequest reads the rest. The request is never nil: even with a refusal, it says where to send it.
func (s *Server) readAuthRequest(redirectURI string, p url.Values) (*authRequest, *refusal) {
	a := &authRequest{
		redirectURI:  redirectURI,
		responseMode: "query",
		state:        p.Get("state"),
		hasState:     p.Has("state"),
		nonce:        p.Get("nonce"),
		challenge:    p.Get("code_challenge"),
		prompt:       strings.Fields(p.Get("prompt")),
		loginHint:    p.Get("login_hint"),
	}
	invalid := func(description string) (*authRequest, *refusal) {
		return a, &refusal{"invalid_request", description}
	}

	var kinds []string // without order (OAuth 2.0 Multiple Response Types, section 5)
	if types := p["response_type"]; len(types) == 1 {
		kinds = strings.Fields(types[0])
		slices.Sort(kinds)
	}
	if a.idToken = slices.Equal(kinds, []string{"code", "id_token"}); a.idToken {
		a.responseMode = "fragment"
	}
	switch mode := p.Get("response_mode"); mode {
	case "":
	case "query":
		if a.idToken {
			return invalid("response_mode query is not for an ID token")
		}
	case "fragment", "form_post":
		a.responseMode = mode
	default:
		return invalid("response_mode is not supported")
	}
	if name, ok := repeated(p, "response_type", "response_mode", "scope", "state", "nonce", "code_challenge",
		"code_challenge_method", "prompt", "max_age", "acr_values", "login_hint", "id_token_hint"); ok {
		return invalid(name + " occurs more than once")
	}
	for _, name := range []string{"request", "request_uri", "registration"} {
		if p.Has(name) {
			return a, &refusal{name + "_not_supported", name + " is not supported"}
		}
	}
	switch {
	case a.idToken && a.nonce == "":
		return invalid("nonce is missing, and response_type has id_token") // OpenID Connect Core 3.3.2.1
	case a.idToken, slices.Equal(kinds, []string{"code"}):
	case len(kinds) == 0:
		return invalid("response_type is missing")
	default:
		return a, &refusal{"unsupported_response_type", "only the response types code and code id_token are supported"}
	}

	switch {
	case a.challenge == "" && (s.cfg.PublicClient || p.Has("code_challenge_method")):
		return invalid("code_challenge is missing")
	case a.challenge != "" && p.Get("code_challenge_method") != "S256":
		return invalid("code_challenge_method must be S256") // without the parameter it would be plain
	case a.challenge != "" && !isS256(a.challenge):
		return invalid("code_challenge is not a SHA-256 in base64url")
	}

	for _, value := range a.prompt {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, value) {
			return invalid("prompt has an unknown value")
		}
	}
	if slices.Contains(a.prompt, "none") && len(a.prompt) > 1 {
		return invalid("prompt has none together with another value")
	}
	if text := p.Get("max_age"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return invalid("max_age is not a number of seconds")
		}
		age := time.Duration(seconds) * time.Second
		a.maxAge = &age
	}
	if values := strings.Fields(p.Get("acr_values")); len(values) > 0 {
		a.acr = values[0]
	}
	ask, err := parseScopes(s.scopes, p.Get("scope"))
	if err != nil {
		return a, &refusal{"invalid_scope", err.Error()}
	}
	a.ask = ask
	return a, s.readIDTokenHint(a, p.Get("id_token_hint"))
}

func isS256(challenge string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(challenge)
	return err == nil && len(sum) == 32
}

// accepts reports whether a session is recent enough for the request.
func (a *authRequest) accepts(current session, now time.Time) bool {
	return a.maxAge == nil || now.Sub(current.authTime) <= *a.maxAge && *a.maxAge > 0
}

// wants reports whether the request asks for one of these prompts.
func (a *authRequest) wants(prompts ...string) bool {
	return slices.ContainsFunc(a.prompt, func(value string) bool { return slices.Contains(prompts, value) })
}
