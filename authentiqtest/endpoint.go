// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file names the endpoints and sends each request to the one it asked for.

package authentiqtest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Endpoint is one of the provider's endpoints. Its value is the path below the issuer.
type Endpoint string

// The endpoints, where Authentiq Connect has them, and the one that it has not, Revocation.
const (
	Discovery  Endpoint = "/.well-known/openid-configuration"
	Authorize  Endpoint = "/authorize"
	Token      Endpoint = "/token"
	Userinfo   Endpoint = "/userinfo"
	Keys       Endpoint = "/public-keys"
	EndSession Endpoint = "/authorize/logout"
	Revocation Endpoint = "/token/revoke"
)

// maxBody bounds what a request may bring, so that a client gone wrong can't fill the memory of the test.
const maxBody = 1 << 20

// endpointFunc answers one request under the hooks that were set when it came in.
type endpointFunc func(w http.ResponseWriter, r *http.Request, hooks *Hooks)

// route finds who answers at an endpoint, and by which methods.
func (s *Server) route(e Endpoint) (answer endpointFunc, methods []string) {
	get := []string{http.MethodGet, http.MethodHead}
	switch e {
	case Discovery:
		return s.discovery, get
	case Keys:
		return s.publicKeys, get
	case Authorize:
		return s.authorize, append(get, http.MethodPost)
	case Token:
		return s.token, []string{http.MethodPost}
	case Userinfo:
		return s.userinfo, append(get, http.MethodPost)
	case Revocation:
		return s.revoke, []string{http.MethodPost}
	case EndSession:
		return s.endSession, append(get, http.MethodPost)
	}
	return nil, nil
}

// serve is the whole server: count, find, record, then let the Handler hook or the endpoint answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		return // closed, and so is the connection
	}
	defer s.inflight.Done()

	endpoint := Endpoint(r.URL.Path)
	answer, methods := s.route(endpoint)
	if answer == nil {
		http.NotFound(w, r)
		return
	}

	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, http.StatusText(status), status)
		return
	}
	// The body is read for the record; the hook and the endpoint find it whole again.
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.requests.add(endpoint, r, body)

	// One snapshot serves the request to its end: it never sees half of one set of hooks and half of another.
	hooks := s.hooks.Load()
	var next http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		if err := r.ParseForm(); err != nil {
			http.Error(w, "malformed parameters", http.StatusBadRequest)
			return
		}
		answer(w, r, hooks)
	})
	if hooks.Handler != nil {
		next = hooks.Handler(endpoint, next)
	}
	next.ServeHTTP(w, r)
}

// parameters are what a request to an endpoint that takes both methods sends: the form of a POST, else the query.
func parameters(r *http.Request) url.Values {
	if r.Method == http.MethodPost {
		return r.PostForm
	}
	return r.URL.Query()
}

// repeated names a parameter that was sent more than once, which RFC 6749 sections 3.1 and 3.2 forbid.
func repeated(p url.Values, names ...string) (string, bool) {
	for _, name := range names {
		if len(p[name]) > 1 {
			return name, true
		}
	}
	return "", false
}
