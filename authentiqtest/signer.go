// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file is a signer: somebody else than the provider, who vouches for claims of its users.

package authentiqtest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// Signer signs claims about the provider's users: as aggregated claims, which the provider passes on, or as distributed
// ones, which the client fetches (OpenID Connect Core section 5.6.2). It listens on loopback.
type Signer struct {
	// Issuer is the iss of what it signs.
	Issuer string

	server *httptest.Server

	mu       sync.Mutex
	keys     *keyring
	now      func() time.Time
	answers  map[string]string // JWTs at the endpoint, by access token
	handler  func(path string, next http.Handler) http.Handler
	requests []SignerRequest
}

// SignerRequest is one request as the signer received it.
type SignerRequest struct {
	Path          string // with the query
	Authorization string
}

// Where a signer answers.
const (
	SignerKeys   = "/keys"
	SignerClaims = "/claims"
)

// NewSigner starts a signer. The caller closes it.
func NewSigner() *Signer {
	s := &Signer{keys: newKeyring(), now: time.Now, answers: make(map[string]string)}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	s.Issuer = s.server.URL
	return s
}

// Close ends the signer.
func (s *Signer) Close() {
	s.server.CloseClientConnections() // whoever a handler keeps waiting
	s.server.Close()
}

// URL returns the address of a path, such as [SignerKeys].
func (s *Signer) URL(path string) string { return s.server.URL + path }

// SetClock makes it tell another time.
func (s *Signer) SetClock(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

// SetHandler takes over its addresses: to delay, to redirect, to answer something else. nil gives them back.
func (s *Signer) SetHandler(h func(path string, next http.Handler) http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

// RotateKeys replaces its keys by new ones with new key IDs.
func (s *Signer) RotateKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = newKeyring()
}

// Requests returns what was asked of a path, oldest first; "" stands for all.
func (s *Signer) Requests(path string) (of []SignerRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if before, _, _ := strings.Cut(r.Path, "?"); path == "" || before == path {
			of = append(of, r)
		}
	}
	return of
}

// Sign returns a JWT with claims, signed with ES256: with iss, iat and exp unless they are in claims; nil takes one out.
func (s *Signer) Sign(claims map[string]any) string {
	s.mu.Lock()
	now := s.now()
	s.mu.Unlock()
	all := map[string]any{"iss": s.Issuer, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	payload, err := json.Marshal(all)
	if err != nil {
		panic(fmt.Sprintf("authentiqtest: claims that are no JSON: %v", err))
	}
	return s.SignAs("ES256", nil, payload)
}

// SignAs signs any payload with its key for alg. The header is sent as it is given; nil stands for its own.
func (s *Signer) SignAs(alg string, header map[string]any, payload []byte) string {
	s.mu.Lock()
	keys := s.keys
	s.mu.Unlock()
	parsed, err := parseAlg(alg)
	if err != nil {
		panic("authentiqtest: " + err.Error())
	}
	if header == nil {
		header = keys.header(parsed)
	}
	private, err := keys.private(parsed)
	if err != nil {
		panic("authentiqtest: " + err.Error())
	}
	token, err := signWith(private, alg, header, payload)
	if err != nil {
		panic("authentiqtest: " + err.Error())
	}
	return token
}

// JWKS returns its key set.
func (s *Signer) JWKS() map[string]any {
	s.mu.Lock()
	keys := s.keys
	s.mu.Unlock()
	doc, err := keys.jwks()
	if err != nil {
		panic("authentiqtest: " + err.Error())
	}
	return doc
}

// Aggregated returns the source of an aggregated claim.
func Aggregated(jwt string) map[string]any { return map[string]any{"JWT": jwt} }

// Distributed returns the source of a distributed claim: whoever brings its access token to [SignerClaims] gets jwt.
func (s *Signer) Distributed(jwt string) map[string]any {
	token := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[token] = jwt
	return map[string]any{"endpoint": s.URL(SignerClaims), "access_token": token}
}

// Vouched returns claims with what others say of the same user: names is the source of each claim, sources what each
// source is.
func Vouched(claims map[string]any, names map[string]string, sources map[string]any) map[string]any {
	all, _ := clone(claims).(map[string]any)
	if all == nil {
		all = make(map[string]any)
	}
	of := make(map[string]any, len(names))
	for claim, source := range names {
		of[claim] = source
	}
	all["_claim_names"], all["_claim_sources"] = of, clone(sources)
	return all
}

func (s *Signer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, SignerRequest{r.URL.RequestURI(), r.Header.Get("Authorization")})
	takeOver := s.handler
	s.mu.Unlock()
	next := http.Handler(http.HandlerFunc(s.answer))
	if takeOver != nil {
		next = takeOver(r.URL.Path, next)
	}
	next.ServeHTTP(w, r)
}

func (s *Signer) answer(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case SignerKeys:
		writeJSON(w, http.StatusOK, s.JWKS())
	case SignerClaims:
		s.mu.Lock()
		jwt, known := s.answers[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		s.mu.Unlock()
		if !known {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/jwt")
		_, _ = w.Write([]byte(jwt)) // to whoever still listens
	default:
		http.NotFound(w, r)
	}
}
