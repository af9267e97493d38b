// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is the token endpoint: a code, or a refresh token, becomes tokens.

package authentiqtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// token answers at Token.
func (s *Server) token(w http.ResponseWriter, r *http.Request, hooks *Hooks) {
	noStore(w)
	if name, ok := repeated(r.PostForm, "grant_type", "code", "redirect_uri", "client_id", "client_secret",
		"code_verifier", "refresh_token"); ok {
		(&refusal{"invalid_request", name + " occurs more than once"}).write(w, http.StatusBadRequest)
		return
	}
	if refused := s.authenticate(r); refused != nil {
		refused.writeTo(w)
		return
	}

	var g grant
	var refused *refusal
	switch kind := r.PostForm.Get("grant_type"); {
	case kind == "authorization_code":
		g, refused = s.redeem(r.PostForm)
	case kind == "refresh_token" && s.cfg.RefreshTokens:
		g, refused = s.renew(r.PostForm)
	case kind == "":
		refused = &refusal{"invalid_request", "grant_type is missing"}
	default:
		refused = &refusal{"unsupported_grant_type", "this grant_type is not supported"}
	}
	user, exists := s.user(g.userID)
	if refused == nil && !exists {
		refused = &refusal{"invalid_grant", "the user is no longer there"}
	}
	if refused != nil {
		refused.write(w, http.StatusBadRequest)
		return
	}

	issued, err := s.newTokens(g, r.PostForm.Get("code"))
	if err != nil {
		writeFailure(w, err)
		return
	}
	idToken, err := s.idToken(hooks, g, user, hashed{"at_hash", issued.access})
	if err != nil {
		writeFailure(w, err)
		return
	}
	doc := map[string]any{
		"access_token": issued.access,
		"token_type":   "Bearer",
		"id_token":     idToken,
		"expires_in":   int64(accessTokenLifetime / time.Second),
		"expires_at":   s.cfg.Now().Add(accessTokenLifetime).Unix(),
		"scope":        strings.Join(g.scopes, " "),
	}
	if issued.refresh != "" {
		doc["refresh_token"] = issued.refresh
	}
	if hooks.TokenResponse != nil {
		hooks.TokenResponse(doc)
	}
	writeJSON(w, http.StatusOK, doc)
}

// jwtAccessToken is an access token that an API can read by itself, with all that providers put in: it is large.
func (s *Server) jwtAccessToken(g grant, id string, now time.Time) (string, error) {
	permissions := make([]string, 40)
	for i := range permissions {
		permissions[i] = fmt.Sprintf("urn:example:permission:%03d", i)
	}
	payload, err := json.Marshal(map[string]any{
		"iss": s.Issuer, "sub": g.userID, "aud": "https://api.example.com", "client_id": s.cfg.ClientID, "jti": id,
		"iat": now.Unix(), "exp": now.Add(accessTokenLifetime).Unix(), "scope": strings.Join(g.scopes, " "), "permissions": permissions,
	})
	if err != nil {
		return "", fmt.Errorf("writing the access token: %w", err)
	}
	alg, err := parseAlg("RS256")
	if err != nil {
		return "", err
	}
	keys := s.keys.Load()
	header := keys.header(alg)
	header["typ"] = "at+jwt"
	return s.sign(keys, alg.name, header, payload)
}

// redeem checks a code against what it is bound to.
func (s *Server) redeem(form url.Values) (grant, *refusal) {
	issued, ok := s.useCode(form.Get("code"))
	switch {
	case !ok:
		return grant{}, &refusal{"invalid_grant", "the code is unknown, used or too old"}
	case form.Get("redirect_uri") != issued.redirectURI:
		return grant{}, &refusal{"invalid_grant", "redirect_uri is not that of the authorization request"}
	case issued.challenge == "" && form.Has("code_verifier"):
		// RFC 9700 section 4.8.2: someone may have removed the challenge on the way.
		return grant{}, &refusal{"invalid_grant", "there is a code_verifier, but there was no code_challenge"}
	case issued.challenge != "" && !proves(form.Get("code_verifier"), issued.challenge):
		return grant{}, &refusal{"invalid_grant", "code_verifier does not fit the code_challenge"}
	}
	return issued.grant, nil
}

// renew checks a refresh token.
func (s *Server) renew(form url.Values) (grant, *refusal) {
	g, ok := s.useRefreshToken(form.Get("refresh_token"))
	if !ok {
		return grant{}, &refusal{"invalid_grant", "the refresh token is unknown, used, or its session has ended"}
	}
	g.nonce = "" // it belongs to the sign-in, not to this request
	return g, nil
}

// proves is PKCE's S256, with the form of a verifier that RFC 7636 section 4.1 prescribes.
func proves(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || strings.Trim(verifier, unreserved) != "" {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return equal(base64.RawURLEncoding.EncodeToString(sum[:]), challenge)
}

const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

// authenticate checks that the request is the client's, by client_secret_basic or client_secret_post, or of a public
// client by its ID alone; or by what Config.ClientAuth says.
func (s *Server) authenticate(r *http.Request) *refusal {
	if s.cfg.ClientAuth != "" {
		return s.authenticateBy(r)
	}
	wrong := &refusal{"invalid_client", "the client is unknown, or its secret is wrong"}
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")

	if r.Header.Get("Authorization") != "" {
		if r.PostForm.Has("client_secret") {
			return &refusal{"invalid_request", "the client authenticates in two ways at once"}
		}
		user, password, ok := r.BasicAuth()
		if !ok {
			return wrong
		}
		// RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
		basicID, err := url.QueryUnescape(user)
		if err != nil {
			return wrong
		}
		if secret, err = url.QueryUnescape(password); err != nil {
			return wrong
		}
		if id != "" && id != basicID {
			return wrong
		}
		id = basicID
	}
	if id != s.cfg.ClientID {
		return wrong
	}
	if s.cfg.PublicClient {
		if r.Header.Get("Authorization") != "" || r.PostForm.Has("client_secret") {
			return wrong
		}
		return nil
	}
	if !equal(secret, s.cfg.ClientSecret) {
		return wrong
	}
	return nil
}

// writeTo answers a client that could not be told.
func (f *refusal) writeTo(w http.ResponseWriter) {
	status := http.StatusBadRequest
	if f.code == "invalid_client" {
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="authentiqtest"`)
	}
	f.write(w, status)
}

func equal(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
