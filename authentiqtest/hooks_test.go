// SPDX-FileCopyrightText: 2026 The caddy-authentiq authors
// SPDX-License-Identifier: Apache-2.0

// This file tests that every hook reaches what it is said to change.

package authentiqtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/authentiq/caddy-authentiq/authentiqtest"
)

func TestHooks(t *testing.T) {
	op := newServer(t, authentiqtest.Config{SigningAlg: "RS256"})
	op.SignInAs(authentiqtest.Alice)
	b := newBrowser(t, op)
	idToken := func() string { return b.tokens()["id_token"].(string) }

	tests := map[string]struct {
		hooks authentiqtest.Hooks
		check func(t *testing.T)
	}{
		"Discovery": {
			authentiqtest.Hooks{Discovery: func(doc map[string]any) {
				doc["issuer"] = "https://evil.example"
				delete(doc, "jwks_uri")
			}},
			func(t *testing.T) {
				doc := b.get(authentiqtest.Discovery, nil).json(t)
				equal(t, doc, "issuer", "https://evil.example")
				absent(t, doc, "jwks_uri")
			},
		},
		"AuthorizationResponse of a success": {
			authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Set("iss", "x"); q.Del("state"); q.Add("code", "two") }},
			func(t *testing.T) {
				q := b.back(b.get(authentiqtest.Authorize, b.ask()))
				if q.Get("iss") != "x" || q.Has("state") || len(q["code"]) != 2 {
					t.Errorf("%v", q)
				}
			},
		},
		"AuthorizationResponse of an error": {
			authentiqtest.Hooks{AuthorizationResponse: func(q url.Values) { q.Set("error_uri", "x") }},
			func(t *testing.T) {
				q := b.back(b.get(authentiqtest.Authorize, b.ask("response_type", "x")))
				if q.Get("error_uri") != "x" || !q.Has("error") {
					t.Errorf("%v", q)
				}
			},
		},
		"IDTokenHeader": {
			authentiqtest.Hooks{IDTokenHeader: func(h map[string]any) { delete(h, "kid"); h["alg"] = "None"; h["jwk"] = 1 }},
			func(t *testing.T) {
				token := idToken()
				header := part(t, token, 0)
				equal(t, header, "alg", "None")
				equal(t, header, "jwk", 1.0)
				absent(t, header, "kid")
				if sig := token[strings.LastIndex(token, ".")+1:]; len(sig) != 342 {
					t.Errorf("a signature of %d characters isn't that of RSA 2048", len(sig))
				}
			},
		},
		"IDTokenClaims, and the signature covers them": {
			authentiqtest.Hooks{IDTokenClaims: func(c map[string]any) { c["aud"] = []string{"a", "b"}; c["exp"] = c["exp"].(int64) - 9999 }},
			func(t *testing.T) {
				token := idToken()
				verify(t, b, "RS256", token)
				claims := payload(t, token)
				if aud := claims["aud"].([]any); len(aud) != 2 || claims["exp"].(float64) > claims["iat"].(float64) {
					t.Errorf("%v", claims)
				}
			},
		},
		"IDTokenPayload, and the signature covers it": {
			authentiqtest.Hooks{IDTokenPayload: func([]byte) []byte { return []byte(`{"sub":"a","sub":"b","exp":1e300}`) }},
			func(t *testing.T) {
				if got := string(verify(t, b, "RS256", idToken())); got != `{"sub":"a","sub":"b","exp":1e300}` {
					t.Errorf("%s", got)
				}
			},
		},
		"IDToken": {
			authentiqtest.Hooks{IDToken: func(compact string) string { return fmt.Sprint("changed ", strings.Count(compact, ".")) }},
			func(t *testing.T) {
				if got := idToken(); got != "changed 2" {
					t.Errorf("%s", got)
				}
			},
		},
		"TokenResponse": {
			authentiqtest.Hooks{TokenResponse: func(m map[string]any) { delete(m, "id_token"); m["token_type"] = "mac" }},
			func(t *testing.T) {
				tokens := b.tokens()
				absent(t, tokens, "id_token")
				equal(t, tokens, "token_type", "mac")
			},
		},
		"TokenResponse that JSON can't say": {
			authentiqtest.Hooks{TokenResponse: func(m map[string]any) { m["x"] = make(chan int) }},
			func(t *testing.T) {
				if a := b.post(authentiqtest.Token, b.exchange(b.code())); a.StatusCode != http.StatusInternalServerError {
					t.Errorf("%d", a.StatusCode)
				}
			},
		},
		"Userinfo": {
			authentiqtest.Hooks{Userinfo: func(m map[string]any) { m["sub"] = "another" }},
			func(t *testing.T) {
				access := b.tokens()["access_token"].(string)
				equal(t, b.post(authentiqtest.Userinfo, url.Values{"access_token": {access}}).json(t), "sub", "another")
			},
		},
		"Keys": {
			authentiqtest.Hooks{Keys: func(jwks map[string]any) { jwks["keys"] = jwks["keys"].([]any)[:1] }},
			func(t *testing.T) {
				if got := keySet(t, b).Keys; len(got) != 1 {
					t.Errorf("%v", got)
				}
			},
		},
		"Handler in place of an endpoint": {
			authentiqtest.Hooks{Handler: func(e authentiqtest.Endpoint, next http.Handler) http.Handler {
				if e != authentiqtest.Token {
					return next
				}
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(http.StatusTeapot)
					_, _ = io.WriteString(w, "<html>")
				})
			}},
			func(t *testing.T) {
				if a := b.post(authentiqtest.Token, b.exchange(b.code())); a.StatusCode != http.StatusTeapot || a.body != "<html>" {
					t.Errorf("%d %s", a.StatusCode, a.body)
				}
			},
		},
		"Handler that reads the body and lets the endpoint read it too": {
			authentiqtest.Hooks{Handler: func(_ authentiqtest.Endpoint, next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Grant", r.PostFormValue("grant_type"))
					next.ServeHTTP(w, r)
				})
			}},
			func(t *testing.T) {
				a := b.post(authentiqtest.Token, b.exchange(b.code()))
				if a.StatusCode != http.StatusOK || a.Header.Get("X-Grant") != "authorization_code" {
					t.Errorf("%d %v", a.StatusCode, a.Header)
				}
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			op.SetHooks(tc.hooks)
			tc.check(t)
			op.SetHooks(authentiqtest.Hooks{})
			verify(t, b, "RS256", idToken()) // all is well again
		})
	}
}

func TestAChangedIDTokenIsStillAHint(t *testing.T) {
	op := newServer(t, authentiqtest.Config{})
	op.SignInAs(authentiqtest.Alice)
	op.SetHooks(authentiqtest.Hooks{IDToken: func(string) string { return "a token from elsewhere" }})
	b := newBrowser(t, op)
	b.tokens()
	if a := newBrowser(t, op).get(authentiqtest.EndSession, url.Values{"id_token_hint": {"a token from elsewhere"}}); a.StatusCode != http.StatusOK {
		t.Errorf("%d", a.StatusCode)
	}
	if q := b.back(b.get(authentiqtest.Authorize, b.ask("prompt", "none"))); q.Get("error") != "login_required" {
		t.Errorf("%v", q)
	}
}
